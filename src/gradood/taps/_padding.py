"""Models whose answers depend on padding that their mask leaves out."""

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from gradood.taps._failures import is_model_failure
from gradood.taps._mixing import rounding_of
from gradood.taps.arguments import Arguments, Inputs, called
from gradood.taps.attended import attended, left_padded, padded, padding_of, sequences, unpadded
from gradood.taps.isolation import left_as_found
from gradood.taps.view import View, Views
from gradood.taps.wrap import Output, logits_of

__all__ = ["Padding", "tried_padding"]

_MORE = 3
"""Positions that are added to try; of waves, half of them."""
_IDS = ("input_ids", "ids", "tokens", "token_ids")


@dataclass(frozen=True, slots=True)
class Padding:
    """What padding does to a model.

    Attributes:
        caution: that it changes the answers, and by how much; None if it does not.
        positions: layer → dimension, 1 or 2, of the positions in its output (batch, …, …), which
            is the one that the padding made longer.
        unmasked: layers whose positions are not those of the mask, as a convolution with a stride
            makes fewer of them.
    """

    caution: str | None = None
    positions: Mapping[str, int] = field(default_factory=dict)
    unmasked: tuple[str, ...] = ()


def tried_padding(views: Views, rows: Inputs, output: Output | None) -> Padding:
    """Whether padding changes what the model answers, with the measured difference.

    The first row is run without padding, and with some positions more that its mask leaves out, at
    the side at which the rows are padded. Of token ids without a mask, in arguments or alone,
    whether the padding that they hold changes the answer.

    Args:
        views: of the model.
        rows: on the model's device.
        output: which item of what the model returns holds the logits, or None for the usual ones.

    Cost:
        Two forwards of one row.
    """
    short: Inputs
    long: Inputs
    fill = _padding_token(views.model, rows)
    if attended(rows) is not None:
        short = unpadded(rows[:1])
        assert isinstance(short, Arguments) and isinstance(rows, Arguments)
        fill = {**fill, **padding_of(rows)}
        more = _more(short)
        left = left_padded(rows)
        long = padded(short, more, fill, left=left)
        where = "before the first, " if left else ""
        what = f"{more} positions more, {where}which its mask leaves out,"
    else:
        found = _without_padding(rows, fill)
        if found is None:
            return Padding()
        short, long = found
        what = "padding in the ids, of which no mask tells the model,"
    try:
        logits, lengthened, lengths = _run(views, short, long, output)
    except Exception as error:  # More positions than the model knows, for one.
        if not is_model_failure(error):
            raise
        return Padding()
    alone, other = logits
    gap = float((alone - other).abs().max() / alone.abs().max().clamp_min(1e-6))
    mask = attended(long)
    own = None if mask is None else mask.shape[1]
    unmasked = tuple(name for name, length in lengths.items() if length != own)
    if gap <= rounding_of(alone):
        return Padding(None, lengthened, unmasked)
    caution = (
        f"{what} move the logits of an input by {gap:.1e} of the largest, so that a score depends "
        "on the batch that an input is in. Let the model leave padded positions out, give it an "
        "attention_mask, or score batches of one length."
    )
    return Padding(caution, lengthened, unmasked)


def _run(
    views: Views, short: Inputs, long: Inputs, output: Output | None
) -> tuple[list[Tensor], dict[str, int], dict[str, int]]:
    """Logits of an input without and with padding, which dimension of each layer grew, to what."""
    logits: list[Tensor] = []
    shapes: list[dict[str, torch.Size]] = []
    with left_as_found(views) as view:
        for inputs in (short, long):
            seen: dict[str, torch.Size] = {}
            with _shapes_of(views, view, seen):
                returned = called(view.module, inputs.clone())
            logits.append(logits_of(returned, output).detach())
            shapes.append(seen)
    before, after = shapes
    grown: dict[str, int] = {}
    lengths: dict[str, int] = {}
    for name in before.keys() & after.keys():
        own = [d for d in (1, 2) if before[name][d] != after[name][d]]
        if len(own) == 1:
            grown[name], lengths[name] = own[0], after[name][own[0]]
    return logits, grown, lengths


@contextmanager
def _shapes_of(views: Views, view: View, seen: dict[str, torch.Size]) -> Iterator[None]:
    """Note the shape of each output (batch, …, …) in a forward of this thread."""
    thread = threading.get_ident()
    handles: list[RemovableHandle] = []

    def noted(name: str) -> Callable[..., None]:
        def hook(_: nn.Module, __: Any, given: Any) -> None:
            if threading.get_ident() == thread and isinstance(given, Tensor) and given.ndim == 3:
                seen[name] = given.shape

        return hook

    try:
        for name, _ in views.model.named_modules():
            module = view.find(name) if name else None
            if module is not None:
                handles.append(module.register_forward_hook(noted(name)))
        yield
    finally:
        for handle in handles:
            handle.remove()


def _more(inputs: Arguments) -> int:
    """Positions to add: of a wave so many that what a convolution makes of it grows too."""
    mask = attended(inputs)
    assert mask is not None
    own = sequences(inputs, mask.shape[1])
    waves = own and all(leaf.ndim == 2 and leaf.is_floating_point() for leaf in own.values())
    return max(_MORE, mask.shape[1] // 2) if waves else _MORE


def _padding_token(module: nn.Module, rows: Inputs) -> dict[str, int | float]:
    """The token that pads ids, as a model of Hugging Face says in its configuration."""
    token = getattr(getattr(module, "config", None), "pad_token_id", None)
    if not isinstance(token, int):
        return {}
    leaves = {_IDS[0]: rows} if isinstance(rows, Tensor) else rows.leaves
    return {n: token for n in _IDS if n in leaves and not leaves[n].is_floating_point()}


def _without_padding(rows: Inputs, fill: Mapping[str, int | float]) -> tuple[Inputs, Inputs] | None:
    """A row without the padding at either end, and as it is; None where none is padded."""
    for name, token in fill.items():
        ids = rows if isinstance(rows, Tensor) else rows.leaves[name]
        if ids.ndim != 2:
            continue
        held = ids != token
        used = held.cummax(1).values & held.flip(1).cummax(1).values.flip(1)
        usable = (used.any(1) & ~used.all(1)).nonzero()[:, 0].tolist()
        if not usable:
            continue
        row, kept = rows[usable[0] : usable[0] + 1], used[usable[0]]
        if isinstance(row, Tensor):
            return row[:, kept], row
        alike = {
            n: leaf[:, kept]
            for n, leaf in row.leaves.items()
            if leaf.ndim > 1 and leaf.shape[1] == ids.shape[1]
        }
        return row.replaced(alike), row
    return None
