"""Reductions of a layer's tensor, applied while the forward or backward pass runs."""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from gradood.taps import positions

__all__ = ["MAP", "MEAN", "NONZERO_SHARE", "POSITIONS", "POSITIVE_SHARE", "Summary"]


@dataclass(frozen=True, slots=True)
class Summary:
    """A named reduction of one layer's tensor.

    Attributes:
        name: what it computes; two summaries of the same name are the same.
        reduce: (tensor (batch, …), dimension of its channels) → tensor with the batch first.
    """

    name: str
    reduce: Callable[[Tensor, int], Tensor] = field(compare=False, repr=False)


_CHUNK = 1 << 20
"""Elements compared at a time: a buffer that stays in cache costs a third of a fresh temporary."""


def _share(tensor: Tensor, channels: int, compare: Callable[..., Tensor]) -> Tensor:
    """(batch, channels) share of positions where `compare` holds, without a map-sized temporary."""
    values = positions(tensor.detach(), channels)
    if values.shape[2] == 1:
        return compare(values[..., 0], 0).float()
    rows = max(1, _CHUNK // max(1, values.shape[1] * values.shape[2]))
    if values.is_cuda or rows >= len(values):
        return compare(values, 0).to(_wide(values)).mean(-1, dtype=torch.float32)
    counts = values.new_empty(values.shape[:2], dtype=torch.float32)
    # Laid out like the values, so that neither the comparison nor the sum walks across strides.
    buffer = torch.empty_like(values[:rows], dtype=torch.float32)
    for i, chunk in enumerate(values.split(rows)):
        part = buffer[: len(chunk)]
        compare(chunk, 0, out=part)
        torch.sum(part, -1, out=counts[i * rows : i * rows + len(chunk)])
    return counts.div_(values.shape[2])


def _wide(values: Tensor) -> torch.dtype:
    return torch.float32 if values.device.type == "cpu" else torch.uint8


def _positive_share(tensor: Tensor, channels: int) -> Tensor:
    return _share(tensor, channels, torch.gt)


def _nonzero_share(tensor: Tensor, channels: int) -> Tensor:
    return _share(tensor, channels, torch.ne)


def _mean(tensor: Tensor, channels: int) -> Tensor:
    values = positions(tensor.detach(), channels)
    wide = torch.promote_types(values.dtype, torch.float32)
    return values.mean(-1, dtype=wide)


def _count(tensor: Tensor, channels: int) -> Tensor:
    values = positions(tensor.detach(), channels)
    return values.new_full((len(values),), values.shape[2], dtype=torch.float32)


def _map(tensor: Tensor, channels: int) -> Tensor:
    return tensor.detach().clone()


POSITIVE_SHARE = Summary("positive share", _positive_share)
"""(batch, channels): share of positions whose value is > 0."""
NONZERO_SHARE = Summary("nonzero share", _nonzero_share)
"""(batch, channels): share of positions whose value is != 0."""
MEAN = Summary("mean", _mean)
"""(batch, channels): mean over positions."""
POSITIONS = Summary("positions", _count)
"""(batch,): number of positions; no value is read."""
MAP = Summary("map", _map)
"""The tensor itself, kept."""
