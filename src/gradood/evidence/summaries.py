"""Reductions of a layer's tensor, applied while the forward or backward pass runs."""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from math import gcd
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gradood.evidence.tracing import tracing
from gradood.taps import positions

__all__ = [
    "MAP",
    "MAX_POWER",
    "MEAN",
    "NONZERO_SHARE",
    "POSITIONS",
    "POSITIVE_SHARE",
    "Summary",
    "gram_sums",
    "largest_value",
    "max_pooled_share",
    "standard_deviation",
]


@dataclass(frozen=True, slots=True)
class Summary:
    """A named reduction of one layer's tensor.

    Attributes:
        name: what it computes; two summaries of the same name are the same.
        reduce: (tensor (batch, …), dimension of its channels) → tensor with the batch first,
            without graph.
        settings: what it was made with, where that is more than its name; plain values.
        with_graph: the same with the tensor's graph, for a `FittedScore`; None where it has none.
    """

    name: str
    reduce: Callable[[Tensor, int], Tensor] = field(compare=False, repr=False)
    settings: tuple[Any, ...] = ()
    with_graph: Callable[[Tensor, int], Tensor] | None = field(
        default=None, compare=False, repr=False
    )


_CHUNK = 1 << 20
"""Elements compared at a time, into a scratch buffer of 4 MB that each thread keeps: fresh
temporaries of a map's size are page-faulted in and cost more than the layer they watch."""
_FEW = 1 << 15
"""Elements up to which the shares of a map are taken in as few calls as can be."""
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
    if tracing():
        return compare(values, 0).float().mean(-1)
    if values.device.type != "cpu":
        return compare(values, 0).to(torch.uint8).mean(-1, dtype=torch.float32)
    if values.numel() <= _FEW:
        part = _scratch()[: values.numel()].view(values.shape)
        compare(values, 0, out=part)
        return part.mean(-1)
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
    return _mean_with_graph(tensor.detach(), channels)


def _mean_with_graph(tensor: Tensor, channels: int) -> Tensor:
    values = positions(tensor, channels)
    wide = torch.promote_types(values.dtype, torch.float32)
    return values.mean(-1, dtype=wide)


def _count(tensor: Tensor, channels: int) -> Tensor:
    values = positions(tensor.detach(), channels)
    return values.new_full((values.shape[0],), values.shape[2], dtype=torch.float32)


def _map(tensor: Tensor, channels: int) -> Tensor:
    return tensor.detach().clone()


def _map_with_graph(tensor: Tensor, channels: int) -> Tensor:
    return tensor.clone()


def max_pooled_share(pool: nn.MaxPool2d) -> Summary:
    """(batch, channels): share of positions that are positive and selected by max pooling.

    Args:
        pool: the layer that takes the tensor.
    """
    settings = (pool.kernel_size, pool.stride, pool.padding, pool.dilation, pool.ceil_mode)
    # No closure, which could not be pickled.
    reduce = partial(_selected_share, settings=settings)
    return Summary("positive share selected by max pooling", reduce, settings)


def _selected_share(tensor: Tensor, channels: int, settings: tuple[Any, ...]) -> Tensor:
    values = tensor.detach()
    if tracing():
        return _selected(values, settings)
    rows = max(1, _CHUNK // max(1, values[0].numel()))
    return torch.cat([_selected(part, settings) for part in values.split(rows)])


def _selected(values: Tensor, settings: tuple[Any, ...]) -> Tensor:
    largest, index = F.max_pool2d(values, *settings, return_indices=True)
    # A position selected by several windows is written several times, with the same value.
    marks = torch.zeros(*values.shape[:2], values.shape[2:].numel(), device=values.device)
    marks.scatter_(2, index.flatten(2), (largest > 0).flatten(2).to(marks.dtype))
    return marks.mean(-1)


def standard_deviation(*, rectified: bool = False) -> Summary:
    """(batch, channels): standard deviation over positions (n − 1), zero for a single one.

    Args:
        rectified: of the values with negative ones set to zero, for the map before its ReLU.
    """
    settings = (rectified,)
    return Summary("standard deviation", partial(_deviation, rectified=rectified), settings)


def _deviation(tensor: Tensor, channels: int, rectified: bool) -> Tensor:
    values = positions(tensor.detach(), channels)
    values = values.to(torch.promote_types(values.dtype, torch.float32))
    if values.shape[2] == 1:
        return torch.zeros_like(values[..., 0])
    return (values.clamp_min(0.0) if rectified else values).std(-1)


def largest_value(*, rectified: bool = False) -> Summary:
    """(batch, channels): largest value over positions.

    Args:
        rectified: at least zero, for the map before its ReLU.
    """
    settings = (rectified,)
    return Summary("largest value", partial(_largest, rectified=rectified), settings)


def _largest(tensor: Tensor, channels: int, rectified: bool) -> Tensor:
    values = positions(tensor.detach(), channels)
    found = values.amax(-1).to(torch.promote_types(values.dtype, torch.float32))
    return found.clamp_min(0.0) if rectified else found


MAX_POWER = 32
"""The largest power of a Gram matrix: beyond it the root of what float32 holds says no more."""


def gram_sums(powers: Sequence[int]) -> Summary:
    """(batch, powers · channels): for each power p, the row sums of the p-th order Gram matrix.

    ``s_i = (Σ_j Σ_x F_ix^p F_jx^p)^(1/p)`` over the positions x of channels i and j, the root taken
    of the absolute value and given its sign. Sums of odd powers cancel where F has both signs, and
    a root magnifies what rounding leaves of them.

    Args:
        powers: p, whole numbers from 1 to `MAX_POWER`, ascending.

    Cost:
        largest power / greatest common divisor products per element, a few MB at a time.
    """
    settings = tuple(powers)
    return Summary("row sums of Gram matrices", partial(_gram_sums, powers=settings), settings)


def _gram_sums(tensor: Tensor, channels: int, powers: tuple[int, ...]) -> Tensor:
    values = positions(tensor.detach(), channels)
    wide = torch.promote_types(values.dtype, torch.float32)
    if tracing():
        return _gram(values.to(wide), powers)
    rows = max(1, _GRAM_CHUNK // max(1, values[0].numel())) if len(values) else 1
    return torch.cat([_gram(part.to(wide), powers) for part in values.split(rows)])


_GRAM_CHUNK = 1 << 19
"""Elements raised to powers at a time: read once per power, they should stay in a core's cache."""


def _gram(values: Tensor, powers: tuple[int, ...]) -> Tensor:
    """Of (batch, channels, positions); never a (channels, channels) matrix."""
    # The 20th power of an activation is no number in float32, that of its share of the largest is.
    own = values.abs().amax(2, keepdim=True)
    largest = own.amax(1, keepdim=True)
    step = gcd(*powers)
    tiny = torch.finfo(values.dtype).tiny
    base = (values / own.clamp_min(tiny)).pow_(step)
    share = (own / largest.clamp_min(tiny)).pow_(step).mT
    power, weight = base.clone(), share.clone()
    sums: list[Tensor] = []
    for p in range(step, powers[-1] + 1, step):
        if p > step:
            power.mul_(base)
            weight.mul_(share)
        if p in powers:
            # Σ_j F_jx^p first, then its product with every channel.
            row = torch.bmm(power, torch.bmm(weight, power).mT)
            sums.append(row.abs().pow_(1.0 / p).mul_(row.sign()))
    return (torch.cat(sums, 2) * (own * largest)).mT.flatten(1)


POSITIVE_SHARE = Summary("positive share", _positive_share)
"""(batch, channels): share of positions whose value is > 0."""
NONZERO_SHARE = Summary("nonzero share", _nonzero_share)
"""(batch, channels): share of positions whose value is != 0."""
MEAN = Summary("mean", _mean, with_graph=_mean_with_graph)
"""(batch, channels): mean over positions."""
POSITIONS = Summary("positions", _count)
"""(batch,): number of positions; no value is read."""
MAP = Summary("map", _map, with_graph=_map_with_graph)
"""The tensor itself, kept."""
