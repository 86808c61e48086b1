"""Rows of each class that lie farthest from its mean, at most a number of them, kept in a fit."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from gradood.functional.moments import ClassMoments
from gradood.functional.samples import Chunks

__all__ = ["FarthestRows", "RowDistance"]

_SLACK = 0.25
"""Of `size`, that is kept beyond it before the nearest rows are dropped."""
RowDistance = Callable[[Tensor, Tensor], Tensor]
"""(rows, width) and (rows, width) centers → (rows,) distances."""


@dataclass(frozen=True, eq=False, slots=True)
class FarthestRows:
    """All rows up to `size`; above, of each class an equal number of those farthest from its mean.

    Means are those of all rows seen so far, also of the dropped ones. A class drops rows once it
    has seen more than its part of `size`, by a mean of that many: a row that is among the very
    farthest in the end is not lost in practice, in whatever order rows come.

    Attributes:
        moments: of all rows by class.
        chunks: columns ``key``, ``labels`` and ``rows`` of those that are kept.
        distance: of a row to the mean of its class.
        size: rows kept at most, about.
        held: rows in the chunks.
    """

    moments: ClassMoments
    chunks: Chunks[dict[str, Tensor]]
    distance: RowDistance
    size: int
    held: int

    @staticmethod
    def of(
        size: int, distance: RowDistance, classes: int, columns: dict[str, Tensor]
    ) -> "FarthestRows":
        """The rows of one batch.

        Args:
            size: see the attribute.
            distance: likewise.
            classes: how many there are.
            columns: ``key`` (batch,) int64, ``labels`` (batch,) int64, ``rows`` (batch, width).
        """
        moments = ClassMoments.of(columns["rows"], columns["labels"], classes)
        rows = len(columns["key"])
        return FarthestRows(moments, Chunks.of(columns), distance, size, rows)._bounded()

    def merge(self, other: "FarthestRows") -> "FarthestRows":
        """The rows of both. Cost: amortized, a copy of what `other` adds."""
        merged = replace(
            self,
            moments=self.moments.merge(other.moments),
            chunks=self.chunks + other.chunks,
            held=self.held + other.held,
        )
        return merged._bounded()

    @property
    def seen(self) -> int:
        """Rows that there were."""
        return int(self.moments.count.sum())

    def trimmed(self) -> "FarthestRows":
        """Without the rows beyond `size`; how many are left does not depend on their order."""
        return self._farthest() if self.seen > self.size else self

    def tensors(self) -> dict[str, Tensor]:
        """Every tensor, by name; the rows sorted by key."""
        return {**self.moments.tensors(), **self._columns()}

    def _bounded(self) -> "FarthestRows":
        return self if self.held <= self.size * (1 + _SLACK) else self._farthest()

    def _columns(self) -> dict[str, Tensor]:
        chunks = tuple(self.chunks)
        table = {name: torch.cat([chunk[name] for chunk in chunks]) for name in chunks[0]}
        order = torch.argsort(table["key"], stable=True)
        return {name: column[order] for name, column in table.items()}

    def _farthest(self) -> "FarthestRows":
        """Of each class the part of `size` that lies farthest from its mean."""
        table, count = self._columns(), len(self.moments.count)
        labels, rows = table["labels"], table["rows"].double()
        far = self.distance(rows, self.moments.mean[labels]).argsort(descending=True, stable=True)
        order = far[labels[far].argsort(stable=True)]
        held = torch.bincount(labels, minlength=count)
        rank = (
            torch.arange(len(order), device=order.device) - (held.cumsum(0) - held)[labels[order]]
        )
        kept = order[rank < max(1, self.size // count)]
        table = {name: column[kept] for name, column in table.items()}
        return replace(self, chunks=Chunks.of(table), held=len(kept))
