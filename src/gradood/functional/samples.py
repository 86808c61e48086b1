"""Samples kept during a fit: all of them, or a seeded few; in an order that no sharding changes."""

from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["Rows", "Selection"]


@dataclass(frozen=True, eq=False, slots=True)
class Rows:
    """Every row seen; `table` sorts them by content key, so shards may come in any order.

    Attributes:
        chunks: of columns of equal length, ``"key"`` among them.
    """

    chunks: tuple[dict[str, Tensor], ...]

    @staticmethod
    def of(**columns: Tensor) -> "Rows":
        """The rows of one batch; `key` (batch,) int64 is required."""
        return Rows((columns,))

    def merge(self, other: "Rows") -> "Rows":
        """The rows of both."""
        return Rows(self.chunks + other.chunks)

    def tensors(self) -> dict[str, Tensor]:
        """All columns, sorted by key."""
        names = self.chunks[0].keys()
        table = {name: torch.cat([chunk[name] for chunk in self.chunks]) for name in names}
        order = torch.argsort(table["key"], stable=True)
        return {name: column[order] for name, column in table.items()}


@dataclass(frozen=True, eq=False, slots=True)
class Selection:
    """The `size` rows with the smallest content keys: a seeded sample that any sharding finds.

    Attributes:
        size: rows kept at most.
        columns: of equal length, ``"key"`` among them, sorted by key.
    """

    size: int
    columns: dict[str, Tensor]

    @staticmethod
    def of(size: int, **columns: Tensor) -> "Selection":
        """The selection of one batch; `key` (batch,) int64 is required."""
        order = torch.argsort(columns["key"], stable=True)[:size]
        return Selection(size, {name: column[order] for name, column in columns.items()})

    def merge(self, other: "Selection") -> "Selection":
        """The selection of both."""
        both = {
            name: torch.cat([column, other.columns[name]]) for name, column in self.columns.items()
        }
        return Selection.of(self.size, **both)

    def tensors(self) -> dict[str, Tensor]:
        """The columns."""
        return dict(self.columns)
