"""Samples kept during a fit: all of them, or a seeded few; in an order that no sharding changes."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

import torch
from torch import Tensor

from gradood.errors import DataError
from gradood.functional._tensor_shapes import integer, integers, keyed_table

__all__ = ["Chunks", "Rows", "Selection"]

T = TypeVar("T")


@dataclass(frozen=True, eq=False, slots=True)
class Chunks(Generic[T]):
    """A sequence that is joined with others often, and read once.

    Joining n of them one after the other moves each item O(log n) times, where tuples would move it
    n times: a block takes up the one before it as soon as it is as long.

    Attributes:
        blocks: of items, in order.
    """

    blocks: tuple[tuple[T, ...], ...]

    @staticmethod
    def of(item: T) -> "Chunks[T]":
        """A single item."""
        return Chunks(((item,),))

    def __add__(self, other: "Chunks[T]") -> "Chunks[T]":
        blocks = list(self.blocks)
        for block in other.blocks:
            while blocks and len(blocks[-1]) <= len(block):
                block = blocks.pop() + block
            blocks.append(block)
        return Chunks(tuple(blocks))

    def __iter__(self) -> Iterator[T]:
        return (item for block in self.blocks for item in block)

    def __len__(self) -> int:
        return sum(map(len, self.blocks))


@dataclass(frozen=True, eq=False, slots=True)
class Rows:
    """Every row seen; `table` sorts them by content key, so shards may come in any order.

    Attributes:
        chunks: of columns of equal length, ``"key"`` among them.
    """

    chunks: Chunks[dict[str, Tensor]]

    @staticmethod
    def of(**columns: Tensor) -> "Rows":
        """The rows of one batch; `key` (batch,) int64 is required."""
        return Rows(Chunks.of(columns))

    def merge(self, other: "Rows") -> "Rows":
        """The rows of both."""
        return Rows(self.chunks + other.chunks)

    def tensors(self) -> dict[str, Tensor]:
        """All columns, sorted by key."""
        chunks = tuple(self.chunks)
        table = {name: torch.cat([chunk[name] for chunk in chunks]) for name in chunks[0]}
        order = torch.argsort(table["key"], stable=True)
        return {name: column[order] for name, column in table.items()}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor]) -> "Rows":
        """What `tensors` gave.

        Raises:
            DataError: they are others.
        """
        return cls.of(**keyed_table("rows", tensors))


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
        """The columns, and the size as a tensor on the CPU."""
        return {**self.columns, **integers({"size": self.size})}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor]) -> "Selection":
        """What `tensors` gave.

        Raises:
            DataError: they are others.
        """
        size = integer("a selection", tensors, "size")
        columns = keyed_table("a selection", {k: v for k, v in tensors.items() if k != "size"})
        if len(columns["key"]) > size:
            raise DataError(f"a selection of {size} cannot have {len(columns['key'])} rows.")
        return cls(size, columns)
