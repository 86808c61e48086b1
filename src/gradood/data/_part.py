"""Some rows of a source."""

from collections.abc import Hashable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, final

import torch
from torch import Tensor

from gradood.data._column_source import ColumnRows
from gradood.data.image_source import ImageSource
from gradood.data.row_source import RowSource

__all__ = ["part_of"]


class _Part(RowSource):
    """Some rows of a source, under the ids they have there.

    Args:
        source: as the user named it.
        whole: all rows.
        rows: which of them.
    """

    def __init__(self, source: str, whole: RowSource, rows: Sequence[int]) -> None:
        self.source = source
        self.labeled, self.classes = whole.labeled, whole.classes
        self.place, self.passed_over = whole.place, whole.passed_over
        self._whole = whole
        self._rows = rows

    def __len__(self) -> int:
        return len(self._rows)

    def id(self, row: int) -> str:
        return self._whole.id(self._rows[row])

    def uri(self, row: int) -> str:
        return self._whole.uri(self._rows[row])

    def name(self, row: int) -> str:
        return self._whole.name(self._rows[row])

    def where(self, row: int) -> str:
        return self._whole.where(self._rows[row])

    def remark(self, row: int) -> tuple[str, str] | None:
        return self._whole.remark(self._rows[row])

    def hint(self, row: int) -> str:
        return self._whole.hint(self._rows[row])

    def label(self, row: int) -> int | Tensor:
        return self._whole.label(self._rows[row])

    def labels(self) -> Tensor:
        return self._whole.labels()[torch.tensor(list(self._rows), dtype=torch.int64)]

    def groups(self) -> Sequence[Hashable]:
        groups = self._whole.groups()
        return [groups[row] for row in self._rows]

    def stamps(self) -> Sequence[str | None]:
        stamps = self._whole.stamps()
        return [stamps[row] for row in self._rows]

    def content(self, rows: Sequence[int]) -> str:
        return self._whole.content([self._rows[row] for row in rows])

    def origins(self, rows: Sequence[int]) -> Iterator[str]:
        return self._whole.origins([self._rows[row] for row in rows])


@final
class ImagePart(_Part, ImageSource):
    """Some rows that are images; see `_Part`."""

    def __init__(self, source: str, whole: ImageSource, rows: Sequence[int]) -> None:
        super().__init__(source, whole, rows)
        self._images = whole

    def encoded(self, row: int) -> bytes | Path:
        return self._images.encoded(self._rows[row])

    def remote(self, row: int) -> bool:
        return self._images.remote(self._rows[row])


@final
class ColumnPart(_Part, ColumnRows):
    """Some rows that are made of columns; see `_Part`."""

    def __init__(self, source: str, whole: ColumnRows, rows: Sequence[int]) -> None:
        super().__init__(source, whole, rows)
        self._columns = whole

    def values(self, row: int) -> Mapping[str, Any]:
        return self._columns.values(self._rows[row])


def part_of(source: str, whole: RowSource, rows: Sequence[int]) -> RowSource:
    """Some rows of a source, of its own kind.

    Args:
        source: as the user named it.
        whole: all rows.
        rows: which of them.
    """
    if isinstance(whole, ColumnRows):
        return ColumnPart(source, whole, rows)
    assert isinstance(whole, ImageSource)
    return ImagePart(source, whole, rows)
