"""Positions of sequences that count, as attention masks and lengths tell them from padding."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from gradood.taps.arguments import Arguments, Inputs

__all__ = [
    "attended",
    "full_mask",
    "is_mask",
    "left_aligned",
    "left_padded",
    "of_one_length",
    "padded",
    "padding_of",
    "sequences",
    "shifted",
    "stepped",
    "unpadded",
]

_COUNTING = ("attention_mask", "mask")
"""Names of masks (batch, length) that are 1 where a position counts."""
_IGNORING = ("src_key_padding_mask", "key_padding_mask", "padding_mask")
"""Of those that are 1 where it does not, as in torch."""
_LENGTHS = ("lengths", "length", "input_lengths", "seq_lengths", "seq_lens", "x_lengths")
"""Of whole numbers (batch,), how many positions count from the first on."""


def attended(inputs: Inputs) -> Tensor | None:
    """Which positions of the sequences in a batch count: (batch, length) bool.

    Args:
        inputs: of a batch.

    Returns:
        None where nothing says so.
    """
    if isinstance(inputs, Tensor):
        return None
    leaves = inputs.leaves
    for name in (*_COUNTING, *_IGNORING):
        mask = leaves.get(name)
        if mask is not None and _is_of_positions(name, mask, leaves):
            return mask != 0 if name in _COUNTING else mask == 0
    lengths = next((leaves[name] for name in _LENGTHS if name in leaves), None)
    if lengths is None or lengths.ndim != 1 or lengths.is_floating_point():
        return None
    first = next((leaf for leaf in leaves.values() if leaf.ndim > 1), None)
    if first is None:
        return None
    places = torch.arange(first.shape[1], device=lengths.device)
    return places < lengths[:, None]


def is_mask(name: str) -> bool:
    """Whether an argument of this name says which positions count."""
    return name in (*_COUNTING, *_IGNORING, *_LENGTHS)


def full_mask(inputs: Arguments) -> Arguments:
    """The inputs with masks and lengths by which every position counts."""
    leaves = inputs.leaves
    lengths = [leaf.shape[1] for leaf in leaves.values() if leaf.ndim > 1]
    full: dict[str, Tensor] = {}
    for name, leaf in leaves.items():
        if name in _COUNTING and leaf.ndim == 2:
            full[name] = torch.ones_like(leaf)
        elif name in _IGNORING and leaf.ndim == 2:
            full[name] = torch.zeros_like(leaf)
        elif name in _LENGTHS and lengths:
            full[name] = torch.full_like(leaf, lengths[0])
    return inputs.replaced(full)


def sequences(inputs: Arguments, length: int) -> dict[str, Tensor]:
    """The tensors whose second dimension are the positions of a mask, without the mask itself.

    Args:
        inputs: of a batch.
        length: of its mask.
    """
    return {
        name: leaf
        for name, leaf in inputs.leaves.items()
        if leaf.ndim > 1 and leaf.shape[1] == length and not is_mask(name)
    }


def stepped(inputs: Arguments) -> str | None:
    """Name of the tensor that a step of the input moves: the first floating one that is no mask."""
    floating = (n for n, leaf in inputs.leaves.items() if leaf.is_floating_point())
    return next((name for name in floating if not is_mask(name)), None)


def left_aligned(tensor: Tensor, mask: Tensor) -> Tensor:
    """(batch, length, …), the positions that count first, in their order.

    Args:
        tensor: (batch, length, …).
        mask: (batch, length) bool.
    """
    order = (~mask).to(torch.uint8).argsort(dim=1, stable=True)
    wide = order.reshape(*order.shape, *[1] * (tensor.ndim - 2))
    return tensor.gather(1, wide.expand_as(tensor))


def unpadded(inputs: Inputs) -> Inputs:
    """The inputs without the positions at either end that count in no row."""
    mask = attended(inputs)
    if mask is None or isinstance(inputs, Tensor):
        return inputs
    used = mask.any(0).nonzero()[:, 0].tolist()
    if not used or len(used) == mask.shape[1]:
        return inputs
    kept = slice(used[0], used[-1] + 1)
    masks = {n: leaf for n, leaf in inputs.leaves.items() if is_mask(n) and leaf.ndim > 1}
    leaves = {**sequences(inputs, mask.shape[1]), **masks}
    return inputs.replaced({name: leaf[:, kept] for name, leaf in leaves.items()})


def padded(
    inputs: Arguments, more: int, fill: Mapping[str, int | float], *, left: bool = False
) -> Arguments:
    """The inputs with more positions at the end, which do not count.

    Args:
        inputs: of a batch, with a mask or lengths.
        more: positions.
        fill: by name of the argument, what is there; 0 where it is not named.
        left: the positions are at the beginning instead.
    """
    mask = attended(inputs)
    if mask is None:
        return inputs
    changed: dict[str, Tensor] = {}
    for name, leaf in inputs.leaves.items():
        if leaf.ndim < 2 or leaf.shape[1] != mask.shape[1]:
            continue
        value = float(name in _IGNORING) if is_mask(name) else fill.get(name, 0)
        end = leaf.new_full((len(leaf), more, *leaf.shape[2:]), value)  # type: ignore[arg-type]
        changed[name] = torch.cat([end, leaf] if left else [leaf, end], 1)
    return inputs.replaced(changed)


def of_one_length(parts: Sequence[Inputs]) -> list[Inputs]:
    """Batches of sequences with a mask, padded as they are themselves, to the longest of them."""
    fill: dict[str, int | float] = {}
    lengths: list[int] = []
    for part in parts:
        mask = attended(part)
        if mask is None or isinstance(part, Tensor):
            return list(parts)
        lengths.append(mask.shape[1])
        fill = {**padding_of(part), **fill}
    longest, left = max(lengths, default=0), any(map(left_padded, parts))
    return [
        padded(part, longest - length, fill, left=left) if isinstance(part, Arguments) else part
        for part, length in zip(parts, lengths, strict=True)
    ]


def left_padded(inputs: Inputs) -> bool:
    """Whether sequences of a batch are padded at their beginning, and none at its end."""
    mask = attended(inputs)
    if mask is None or not mask.shape[1]:
        return False
    first, last = mask[:, 0], mask[:, -1]
    return bool((last & ~first).any()) and not bool((first & ~last).any())


def padding_of(inputs: Arguments) -> dict[str, int | float]:
    """What is at the first position that does not count, by name; empty where all count."""
    mask = attended(inputs)
    if mask is None or bool(mask.all()):
        return {}
    row, place = (~mask).nonzero()[0].tolist()
    return {
        name: leaf[row, place].item()
        for name, leaf in sequences(inputs, mask.shape[1]).items()
        if leaf.ndim == 2
    }


def shifted(inputs: Inputs, step: int) -> Inputs:
    """Other inputs that a model takes just as well, for trials.

    A tensor is rolled along its last dimension. Of arguments, sequences are rolled within the
    positions that count, other floating tensors along their last dimension; other whole numbers
    stay, as each column of a table may have its own range.

    Args:
        inputs: of a batch.
        step: places, 1 or more.
    """
    if isinstance(inputs, Tensor):
        return torch.roll(inputs, step, -1)
    mask = attended(inputs)
    rolled = {
        name: torch.roll(leaf, step, -1)
        for name, leaf in inputs.leaves.items()
        if leaf.is_floating_point() and leaf.ndim > 1 and not is_mask(name)
    }
    if mask is not None:
        for name, leaf in sequences(inputs, mask.shape[1]).items():
            rolled[name] = _rolled_within(leaf, mask, step)
    elif len(inputs.leaves) == 1:
        rolled = {name: torch.roll(leaf, step, -1) for name, leaf in inputs.leaves.items()}
    return inputs.replaced(rolled)


def _rolled_within(leaf: Tensor, mask: Tensor, step: int) -> Tensor:
    """Each row rolled along its positions that count, the first of which stays (it may be CLS)."""
    first = mask.to(torch.uint8).argmax(1, keepdim=True)
    counts = mask.sum(1, keepdim=True)
    places = torch.arange(mask.shape[1], device=mask.device)[None]
    inner = mask & (places > first) & (places < first + counts - 1)
    size = (counts - 2).clamp(min=1)
    source = torch.where(inner, first + 1 + (places - first - 1 + step) % size, places)
    return leaf.gather(1, source.reshape(*source.shape, *[1] * (leaf.ndim - 2)).expand_as(leaf))


def _is_of_positions(name: str, mask: Tensor, leaves: Mapping[str, Tensor]) -> bool:
    """Whether a mask is over the positions of a sequence."""
    if mask.ndim != 2:
        return False
    others = [
        leaf
        for other, leaf in leaves.items()
        if not is_mask(other) and leaf.ndim > 1 and leaf.shape[1] == mask.shape[1]
    ]
    if name != "mask":
        return bool(others)
    # A table with a mask of missing values has no positions.
    return any(leaf.ndim > 2 or not leaf.is_floating_point() for leaf in others)
