"""Quantiles of a stream, as mergeable state: a histogram over the bits of float32."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil, floor

import torch
from torch import Tensor

from gradood.functional._tensor_shapes import checked

__all__ = ["Histogram"]

_BITS = 12
_BINS = 1 << (32 - _BITS)


@dataclass(frozen=True, eq=False, slots=True)
class Histogram:
    """Counts per bin of float32, whose order is the order of its bit patterns.

    A bin spans 1/2048 of its value at most, so a quantile is exact to that relative precision, for
    any distribution, number of samples and order of merging.

    Attributes:
        counts: (2**20,) int64.
    """

    counts: Tensor

    @staticmethod
    def of(values: Tensor) -> "Histogram":
        """The histogram of finite `values` of any shape."""
        bits = values.detach().float().contiguous().flatten().view(torch.int32)
        bins = (_ordered(bits) >> _BITS) + _BINS // 2
        return Histogram(torch.bincount(bins, minlength=_BINS))

    def merge(self, other: "Histogram") -> "Histogram":
        """The histogram of both."""
        return Histogram(self.counts + other.counts)

    def tensors(self) -> dict[str, Tensor]:
        """Every tensor of this state, by name."""
        return {"counts": self.counts}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor]) -> "Histogram":
        """What `tensors` gave.

        Raises:
            DataError: they are others.
        """
        return cls(checked("a histogram", tensors, "counts: int bins", bins=_BINS)["counts"])

    def quantile(self, share: float) -> float:
        """The value below which `share` (0 to 1) of the samples lie, linear between samples."""
        below = torch.cumsum(self.counts, 0)
        rank = share * (int(below[-1]) - 1)
        low, high = (self._sample(below, place) for place in (floor(rank), ceil(rank)))
        return low + (high - low) * (rank - floor(rank))

    def _sample(self, below: Tensor, place: int) -> float:
        """The sample at a place in ascending order; those of one bin lie evenly in it."""
        found = int(torch.searchsorted(below, place, right=True))
        edges = torch.tensor([found, found + 1], dtype=torch.int64, device="cpu") - _BINS // 2
        edges <<= _BITS
        edges[1] -= 1
        low, high = _ordered(edges.to(torch.int32)).view(torch.float32).double().tolist()
        count = int(self.counts[found])
        inside = (place - (int(below[found]) - count) + 0.5) / count
        return low + (high - low) * inside


def _ordered(bits: Tensor) -> Tensor:
    """Bit patterns of floats as integers of the same order; its own inverse."""
    return bits ^ ((bits >> 31) & 0x7FFFFFFF)
