"""Copies among calibration samples, by their content keys, and sets of samples with fewer."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["Contents"]


@dataclass(frozen=True, eq=False, slots=True)
class Contents:
    """How often each distinct content occurs.

    Attributes:
        order: (n,) int64, the rows sorted by content.
        counts: (m,) int64, the copies of each content, in that order.
    """

    order: Tensor
    counts: Tensor

    @staticmethod
    def of(keys: Tensor) -> "Contents":
        """The contents of (n,) int64 content keys. Cost: a sort."""
        ordered, order = keys.sort(stable=True)
        return Contents(order, ordered.unique_consecutive(return_counts=True)[1])

    @property
    def distinct(self) -> int:
        """How many contents there are."""
        return len(self.counts)

    def with_fewer_copies(self) -> Iterator[Tensor]:
        """Rows of smaller sets of samples that may be the ones that were drawn: (k,) int64 each.

        - All contents once: each was drawn once, and copied any number of times.
        - Where no content occurs once, and g times at least: each content's copies divided by g, as
          if the whole set had been repeated g times.

        None if no two rows are copies.
        """
        if self.distinct == len(self.order):
            return
        yield self._thinned(int(self.counts.max()))
        least = int(self.counts.min())
        if 1 < least < int(self.counts.max()):
            yield self._thinned(least)

    def _thinned(self, divisor: int) -> Tensor:
        """Rows in which each content occurs one `divisor`-th as often, rounded up."""
        kept = (self.counts + divisor - 1) // divisor
        starts = self.counts.cumsum(0) - self.counts
        place = torch.arange(len(self.order), device="cpu") - starts.repeat_interleave(self.counts)
        return self.order[place < kept.repeat_interleave(self.counts)]
