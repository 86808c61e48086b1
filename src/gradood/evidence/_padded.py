"""Summaries of a sequence's positions that leave padding out."""

import torch
from torch import Tensor

from gradood.evidence.summaries import MAP, Summary
from gradood.taps import Inputs, attended, left_aligned

__all__ = ["attended_positions", "summarized"]


def attended_positions(inputs: Inputs) -> Tensor | None:
    """(batch, length) bool, which positions count; None where all do, or nothing says so."""
    mask = attended(inputs)
    return None if mask is None or bool(mask.all()) else mask


def summarized(
    summary: Summary, tensor: Tensor, channels: int, mask: Tensor | None, *, graph: bool = False
) -> Tensor:
    """A summary of each row's positions that count.

    Rows with the same number of them are reduced together, as if they had come without padding;
    so no summary needs to know of masks. The tensor itself, where it is asked for, has zeros at the
    positions that do not count.

    Args:
        summary: of the tensor.
        tensor: (batch, …).
        channels: dimension of its channels.
        mask: (batch, length) bool, or None.
        graph: whether to keep the graph; the summary has a `with_graph`.

    Cost:
        Without a mask, that of the summary; else a copy of the positions that count, and one call
        of the summary for each number of them.
    """
    reduce = summary.with_graph if graph and summary.with_graph is not None else summary.reduce
    axis = 1 if channels != 1 else 2
    if mask is None or tensor.ndim != 3 or tensor.shape[0::axis][:2] != mask.shape:
        return reduce(tensor, channels)
    mask = mask.to(tensor.device)
    if summary == MAP:
        wide = mask[..., None] if axis == 1 else mask[:, None]
        return reduce(tensor.where(wide, 0), channels)
    rows = tensor.transpose(1, axis)
    aligned = left_aligned(rows, mask)
    counts = mask.sum(1)
    parts: list[Tensor] = []
    places: list[Tensor] = []
    for count in counts.unique().tolist():
        chosen = (counts == count).nonzero()[:, 0]
        part = aligned[chosen, : max(count, 1)].transpose(1, axis)
        parts.append(reduce(part, channels))
        places.append(chosen)
    return torch.cat(parts)[torch.cat(places).argsort()]
