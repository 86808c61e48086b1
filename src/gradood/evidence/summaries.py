"""Reductions of a layer's tensor, applied while the forward or backward pass runs."""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gradood.taps import positions

__all__ = [
    "MAP",
    "MEAN",
    "NONZERO_SHARE",
    "POSITIONS",
    "POSITIVE_SHARE",
    "Summary",
    "max_pooled_share",
]


@dataclass(frozen=True, slots=True)
class Summary:
    """A named reduction of one layer's tensor.

    Attributes:
        name: what it computes; two summaries of the same name are the same.
        reduce: (tensor (batch, …), dimension of its channels) → tensor with the batch first.
        settings: what it was made with, where that is more than its name; plain values.
    """

    name: str
    reduce: Callable[[Tensor, int], Tensor] = field(compare=False, repr=False)
    settings: tuple[Any, ...] = ()


_CHUNK = 1 << 20
"""Elements compared at a time, into a scratch buffer of 4 MB that each thread keeps: fresh
temporaries of a map's size are page-faulted in and cost more than the layer they watch."""
_SCRATCH = threading.local()


def _scratch() -> Tensor:
    if not hasattr(_SCRATCH, "buffer"):
        _SCRATCH.buffer = torch.empty(_CHUNK, dtype=torch.float32, device="cpu")
    return _SCRATCH.buffer


def _share(tensor: Tensor, channels: int, compare: Callable[..., Tensor]) -> Tensor:
    """(batch, channels) share of positions where `compare` holds, without a map-sized temporary."""
    values = positions(tensor.detach(), channels)
    if values.shape[2] == 1:
        return compare(values[..., 0], 0).float()
    if values.device.type != "cpu":
        return compare(values, 0).to(torch.uint8).mean(-1, dtype=torch.float32)
    # Dimensions in memory order, so that neither the comparison nor the sum walks across strides.
    transposed = values.stride(1) < values.stride(2)
    if transposed:
        values = values.transpose(1, 2)
    counts = values.new_empty(len(values), values.shape[1 + transposed], dtype=torch.float32)
    size = max(1, values.shape[1] * values.shape[2])
    rows = max(1, _CHUNK // size)
    buffer = _scratch() if size <= _CHUNK else counts.new_empty(size)
    for i in range(0, len(values), rows):
        chunk = values[i : i + rows]
        part = buffer[: chunk.numel()].view(chunk.shape)
        compare(chunk, 0, out=part)
        torch.sum(part, 1 if transposed else 2, out=counts[i : i + rows])
    return counts.div_(values.shape[1] if transposed else values.shape[2])


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


def max_pooled_share(pool: nn.MaxPool2d) -> Summary:
    """(batch, channels): share of positions that are positive and selected by max pooling.

    Args:
        pool: the layer that takes the tensor.
    """
    settings = (pool.kernel_size, pool.stride, pool.padding, pool.dilation, pool.ceil_mode)

    def reduce(tensor: Tensor, channels: int) -> Tensor:
        values = tensor.detach()
        rows = max(1, _CHUNK // max(1, values[0].numel()))
        return torch.cat([_selected(part, settings) for part in values.split(rows)])

    return Summary("positive share selected by max pooling", reduce, settings)


def _selected(values: Tensor, settings: tuple[Any, ...]) -> Tensor:
    largest, index = F.max_pool2d(values, *settings, return_indices=True)
    # A position selected by several windows is written several times, with the same value.
    marks = torch.zeros(*values.shape[:2], values.shape[2:].numel(), device=values.device)
    marks.scatter_(2, index.flatten(2), (largest > 0).flatten(2).to(marks.dtype))
    return marks.mean(-1)


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
