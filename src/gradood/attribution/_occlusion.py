"""Falls of a score where a part of the input is covered [zeiler2014visualizing]."""

import torch
from torch import Tensor

from gradood.attribution._grid import image_size
from gradood.attribution._mapped_score import MappedScore
from gradood.attribution._path import LayerMap
from gradood.errors import TapError
from gradood.taps import Arguments, Inputs, attended, is_mask

__all__ = ["covered", "occlusion"]

_CELLS = 8
"""Windows per side, whose side is a quarter of the image's."""


def occlusion(x: Inputs, explained: MappedScore) -> LayerMap:
    """How much the score falls where a window of an image, or a token of a text, is taken away.

    Windows of a quarter of height and width, around the centers of 8 × 8 cells, are `covered`;
    tokens are left out of the attention mask, one at a time.

    Args:
        x: of a batch, finite, on the model's device.
        explained: the score.

    Raises:
        TapError: it is neither images nor a sequence with a mask.

    Cost:
        64 forwards, or one for each token.
    """
    score = explained.of_inputs(x)
    size = image_size(x)
    if isinstance(x, Tensor) and size is not None:
        falls = [
            score - explained.of_inputs(covered(x, (rows, columns)))
            for rows in _windows(size[0])
            for columns in _windows(size[1])
        ]
        values = torch.stack(falls, 1).unflatten(1, (_cells(size[0]), _cells(size[1])))
        return LayerMap(values, score, torch.full_like(score, torch.nan))
    mask = attended(x)
    if mask is None or isinstance(x, Tensor):
        raise TapError(
            "the inputs are neither images (batch, channels, height, width) nor sequences with an "
            "attention mask, of which parts could be taken away."
        )
    falls = [score - explained.of_inputs(_without(x, place)) for place in range(mask.shape[1])]
    values = torch.where(mask.cpu(), torch.stack(falls, 1), 0.0)[:, None]
    return LayerMap(values, score, torch.full_like(score, torch.nan))


def covered(x: Tensor, window: tuple[slice, slice]) -> Tensor:
    """Images with a window filled by the mean of the linear interpolations of opposite edges.

    At a border of the image, the edge on the other side goes on.

    Args:
        x: (batch, channels, height, width).
        window: rows and columns.
    """
    rows, columns = window
    down = _between(x[:, :, :, columns], rows, 2)
    across = _between(x[:, :, rows], columns, 3)
    fills = [fill for fill in (down, across) if fill is not None]
    out = x.clone()
    out[:, :, rows, columns] = torch.stack(fills).mean(0) if fills else x.mean((2, 3), keepdim=True)
    return out


def _between(x: Tensor, part: slice, dim: int) -> Tensor | None:
    """From the line before a part to the one after it; None where it is all there is."""
    size = part.stop - part.start
    before = x.narrow(dim, part.start - 1, 1) if part.start > 0 else None
    after = x.narrow(dim, part.stop, 1) if part.stop < x.shape[dim] else None
    if before is None or after is None:
        line = after if before is None else before
        return None if line is None else line.repeat_interleave(size, dim)
    share = torch.arange(1, size + 1, device=x.device, dtype=x.dtype) / (size + 1)
    share = share.reshape(*(-1 if d == dim else 1 for d in range(x.ndim)))
    return before * (1 - share) + after * share


def _cells(size: int) -> int:
    return min(_CELLS, size)


def _windows(size: int) -> list[slice]:
    cells = _cells(size)
    half = max(size / _CELLS, 0.5)
    centers = [(cell + 0.5) * size / cells for cell in range(cells)]
    return [slice(max(0, round(c - half)), min(size, round(c + half))) for c in centers]


def _without(x: Arguments, place: int) -> Arguments:
    """The inputs with one position left out of the mask."""
    leaves: dict[str, Tensor] = {}
    for name, leaf in x.leaves.items():
        if is_mask(name) and leaf.ndim == 2:
            leaves[name] = leaf.clone()
            counting = name in ("attention_mask", "mask")
            leaves[name][:, place] = 0 if counting else 1
    if not leaves:
        raise TapError(
            "the inputs tell padding by lengths, from which no position in the middle can be left "
            "out; give an attention_mask."
        )
    return x.replaced(leaves)
