"""Rows of each class that lie farthest from its mean, at most a number of them, kept in a fit."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import get_args

import torch
from torch import Tensor

from gradood.errors import DataError
from gradood.functional._tensor_shapes import checked, integer, integers
from gradood.functional.moments import ClassMoments
from gradood.functional.openmax import Distance, own_distances
from gradood.functional.samples import Chunks

__all__ = ["FarthestRows"]

_KINDS: tuple[Distance, ...] = get_args(Distance)
_WHAT = "farthest rows"

_TOGETHER = 4096
"""Rows whose distances are computed at once."""
_SLACK = 0.25
"""Of `size`, that is kept beyond it before the nearest rows are dropped."""


@dataclass(frozen=True, eq=False, slots=True)
class FarthestRows:
    """All rows up to `size`; above, of each class an equal number of those farthest from its mean.

    Means are those of all rows seen so far, also of the dropped ones. A class drops rows once it
    has seen more than its part of `size`, by a mean of that many: a row that is among the very
    farthest in the end is not lost in practice, in whatever order rows come.

    Attributes:
        moments: of all rows by class.
        chunks: columns ``key``, ``labels`` and ``rows`` of those that are kept.
        kind: of distance of a row to the mean of its class; see `gradood.functional.openmax`.
        size: rows kept at most, about.
        held: rows in the chunks.
    """

    moments: ClassMoments
    chunks: Chunks[dict[str, Tensor]]
    kind: Distance
    size: int
    held: int

    @staticmethod
    def of(size: int, kind: Distance, classes: int, columns: dict[str, Tensor]) -> "FarthestRows":
        """The rows of one batch.

        Args:
            size: see the attribute.
            kind: likewise.
            classes: how many there are.
            columns: ``key`` (batch,) int64, ``labels`` (batch,) int64, ``rows`` (batch, width).
        """
        moments = ClassMoments.of(columns["rows"], columns["labels"], classes)
        rows = len(columns["key"])
        return FarthestRows(moments, Chunks.of(columns), kind, size, rows)._bounded()

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
        """Every tensor, by name; the rows sorted by key. Cost: a copy."""
        numbers = {"size": self.size, "kind": _KINDS.index(self.kind)}
        return {**self.moments.tensors(), **self.table(), **integers(numbers)}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor]) -> "FarthestRows":
        """What `tensors` gave.

        Raises:
            DataError: they are others.
        """
        shapes = ("count: int classes", "mean: float64 classes width", "key: int rows")
        shapes = (*shapes, "labels: int rows", "rows: float rows width", "size: int", "kind: int")
        checked(_WHAT, tensors, *shapes)
        size, kind = (integer(_WHAT, tensors, name) for name in ("size", "kind"))
        moments = ClassMoments(tensors["count"], tensors["mean"], None)
        table = {name: tensors[name] for name in ("key", "labels", "rows")}
        key, labels, classes = table["key"], table["labels"], len(moments.count)
        ordered = bool((key[1:] >= key[:-1]).all())
        known = bool(((labels >= 0) & (labels < classes)).all())
        fits = known and bool((labels.bincount(minlength=classes) <= moments.count).all())
        if not (ordered and fits and size and kind < len(_KINDS)):
            raise DataError(
                f"{_WHAT} cannot be made of these tensors: keys are not in ascending order, labels "
                "are of no class or more than were seen, or size or kind is none."
            )
        return cls(moments, Chunks.of(table), _KINDS[kind], size, len(key))

    def _bounded(self) -> "FarthestRows":
        return self if self.held <= self.size * (1 + _SLACK) else self._farthest()

    def table(self) -> dict[str, Tensor]:
        """The columns, sorted by key. Cost: a copy."""
        chunks = tuple(self.chunks)
        table = {name: torch.cat([chunk[name] for chunk in chunks]) for name in chunks[0]}
        order = torch.argsort(table["key"], stable=True)
        return {name: column[order] for name, column in table.items()}

    def _farthest(self) -> "FarthestRows":
        """Of each class the part of `size` that lies farthest from its mean."""
        table, count = self.table(), len(self.moments.count)
        labels, means = table["labels"], self.moments.mean
        parts = zip(table["rows"].split(_TOGETHER), labels.split(_TOGETHER), strict=True)
        near = [own_distances(rows.double(), means[own], self.kind) for rows, own in parts]
        far = torch.cat(near).argsort(descending=True, stable=True)
        order = far[labels[far].argsort(stable=True)]
        held = torch.bincount(labels, minlength=count)
        rank = (
            torch.arange(len(order), device=order.device) - (held.cumsum(0) - held)[labels[order]]
        )
        kept = order[rank < max(1, self.size // count)]
        table = {name: column[kept] for name, column in table.items()}
        return replace(self, chunks=Chunks.of(table), held=len(kept))
