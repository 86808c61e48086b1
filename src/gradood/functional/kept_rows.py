"""Rows kept during a fit, at most a number of them, joined without copying what is kept."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from gradood.errors import DataError
from gradood.functional._tensor_shapes import integer, integers, keyed_table
from gradood.functional.samples import Chunks

__all__ = ["KeptRows"]

_LAST = torch.iinfo(torch.int64).max
_SLACK = 0.25
"""Of `size`, that is kept beyond it before the rows with the largest keys are dropped."""


@dataclass(frozen=True, eq=False, slots=True)
class KeptRows:
    """The `size` rows with the smallest content keys, or all rows, and how many there were.

    What `Selection` keeps, for many rows: those dropped are found once for many batches.

    Attributes:
        chunks: of columns of equal length, ``"key"`` among them.
        size: rows kept at most; None for all.
        seen: rows that there were.
        held: rows in the chunks, some more than `size` at times.
        bound: no row with a larger key is kept.
    """

    chunks: Chunks[dict[str, Tensor]]
    size: int | None
    seen: int
    held: int
    bound: int = _LAST

    @staticmethod
    def of(size: int | None, **columns: Tensor) -> "KeptRows":
        """The rows of one batch; `key` (batch,) int64 is required."""
        rows = len(columns["key"])
        return KeptRows(Chunks.of(columns), size, rows, rows)._bounded()

    def merge(self, other: "KeptRows") -> "KeptRows":
        """The rows of both. Cost: amortized, a copy of what `other` adds."""
        bound = min(self.bound, other.bound)
        a, b = self._below(bound), other._below(bound)
        chunks = a.chunks + b.chunks if a.held and b.held else (a if a.held else b).chunks
        seen, held = self.seen + other.seen, a.held + b.held
        return KeptRows(chunks, self.size, seen, held, bound)._bounded()

    def mapped(self, change: Callable[[dict[str, Tensor]], dict[str, Tensor]]) -> "KeptRows":
        """The same rows with other columns.

        Args:
            change: columns of some rows → columns of the same rows, with the same keys.
        """
        chunks: Chunks[dict[str, Tensor]] = Chunks(())
        for chunk in self.chunks:
            chunks = chunks + Chunks.of(change(chunk))
        return replace(self, chunks=chunks)

    def tensors(self) -> dict[str, Tensor]:
        """All columns, sorted by key, and `seen` and `size` on the CPU. Cost: a copy."""
        counts = {"seen": self.seen} | ({} if self.size is None else {"size": self.size})
        return {**self.table(), **integers(counts)}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor]) -> "KeptRows":
        """What `tensors` gave.

        Raises:
            DataError: they are others.
        """
        what, counts = "a bank of rows", {"seen", "size"} & tensors.keys()
        seen = integer(what, tensors, "seen")
        size = integer(what, tensors, "size") if "size" in counts else None
        table = keyed_table(what, {n: t for n, t in tensors.items() if n not in counts})
        held = len(table["key"])
        if held != (seen if size is None else min(size, seen)):
            raise DataError(f"{what} of {seen} seen, at most {size} kept, cannot have {held}.")
        bound = int(table["key"][-1]) if 0 < held < seen else _LAST
        return cls(Chunks.of(table), size, seen, held, bound)

    def table(self) -> dict[str, Tensor]:
        """All columns, sorted by key. Cost: a copy."""
        chunks = tuple(self.chunks)
        keys = torch.cat([chunk["key"] for chunk in chunks])
        order = torch.argsort(keys, stable=True)[: self.size]
        place = torch.full_like(keys, -1)
        place[order] = torch.arange(len(order), device=keys.device)
        table = {
            name: column.new_empty((len(order), *column.shape[1:]))
            for name, column in chunks[0].items()
        }
        start = 0
        for chunk in chunks:
            rows = place[start : start + len(chunk["key"])]
            kept = rows >= 0
            for name, column in chunk.items():
                table[name][rows[kept]] = column[kept]
            start += len(rows)
        return table

    def _bounded(self) -> "KeptRows":
        """Without the rows that are too many, if they are more than a quarter of `size`."""
        if self.size is None or self.held <= self.size * (1 + _SLACK):
            return self
        keys = torch.cat([chunk["key"] for chunk in self.chunks])
        return self._below(int(keys.sort().values[self.size - 1]))

    def _below(self, bound: int) -> "KeptRows":
        """Without rows of larger keys."""
        if bound >= self.bound:
            return self
        chunks: Chunks[dict[str, Tensor]] = Chunks(())
        held = 0
        for chunk in self.chunks:
            kept = chunk["key"] <= bound
            count = int(kept.sum())
            if count:
                part = {name: column[kept] for name, column in chunk.items()}
                chunks, held = chunks + Chunks.of(part), held + count
        if not held:  # The columns' types and widths are known from a chunk without rows.
            chunks = Chunks.of({n: c[:0] for n, c in next(iter(self.chunks)).items()})
        return replace(self, chunks=chunks, held=held, bound=bound)
