"""Rows of each class that lie farthest from its mean, at most a number of them, kept in a fit."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import get_args

import torch
from torch import Tensor

from gradood.errors import DataError
from gradood.functional._tensor_shapes import integer, keyed_table
from gradood.functional.moments import ClassMoments
from gradood.functional.openmax import Distance, own_distances
from gradood.functional.samples import Chunks

__all__ = ["FarthestRows"]

_SLACK = 0.25
"""Of `size`, that is kept beyond it before the nearest rows are dropped."""
_DISTANCES: tuple[Distance, ...] = get_args(Distance)
_COLUMNS = ("key", "labels", "rows")


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
    distance: Distance
    size: int
    held: int

    @staticmethod
    def of(
        size: int, distance: Distance, classes: int, columns: dict[str, Tensor]
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
        """Every tensor, by name; the rows sorted by key, the counts on the CPU."""
        counts = {"size": self.size, "distance": _DISTANCES.index(self.distance)}
        stated = {n: torch.tensor(c, dtype=torch.int64, device="cpu") for n, c in counts.items()}
        return {**self.moments.tensors(), **self.columns(), **stated}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor]) -> "FarthestRows":
        """What `tensors` gave.

        Raises:
            DataError: they are others.
        """
        what = "a bank of the farthest rows"
        size, kind = integer(what, tensors, "size"), integer(what, tensors, "distance")
        table = keyed_table(what, {n: tensors[n] for n in _COLUMNS if n in tensors})
        others = {n: t for n, t in tensors.items() if n not in (*_COLUMNS, "size", "distance")}
        moments = ClassMoments.from_tensors(others)
        if len(table) < len(_COLUMNS) or kind >= len(_DISTANCES):
            raise DataError(f"{what} cannot be made of {sorted(tensors)[:8]}.")
        held = len(table["key"])
        return cls(moments, Chunks.of(table), _DISTANCES[kind], size, held)

    def columns(self) -> dict[str, Tensor]:
        """``key``, ``labels`` and ``rows`` of those that are kept, sorted by key."""
        chunks = tuple(self.chunks)
        table = {name: torch.cat([chunk[name] for chunk in chunks]) for name in chunks[0]}
        order = torch.argsort(table["key"], stable=True)
        return {name: column[order] for name, column in table.items()}

    def _bounded(self) -> "FarthestRows":
        return self if self.held <= self.size * (1 + _SLACK) else self._farthest()

    def _farthest(self) -> "FarthestRows":
        """Of each class the part of `size` that lies farthest from its mean."""
        table, count = self.columns(), len(self.moments.count)
        labels, rows = table["labels"], table["rows"].double()
        far = own_distances(rows, self.moments.mean[labels], self.distance).argsort(
            descending=True, stable=True
        )
        order = far[labels[far].argsort(stable=True)]
        held = torch.bincount(labels, minlength=count)
        rank = (
            torch.arange(len(order), device=order.device) - (held.cumsum(0) - held)[labels[order]]
        )
        kept = order[rank < max(1, self.size // count)]
        table = {name: column[kept] for name, column in table.items()}
        return replace(self, chunks=Chunks.of(table), held=len(kept))
