"""Some rows of an image source."""

from collections.abc import Hashable, Iterator, Sequence
from pathlib import Path
from typing import final

import torch
from torch import Tensor

from gradood.data.image_source import ImageSource

__all__ = ["Part"]


@final
class Part(ImageSource):
    """Some rows of a source, under the ids they have there.

    Args:
        source: as the user named it.
        whole: all rows.
        rows: which of them.
    """

    def __init__(self, source: str, whole: ImageSource, rows: Sequence[int]) -> None:
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

    def encoded(self, row: int) -> bytes | Path:
        return self._whole.encoded(self._rows[row])

    def remote(self, row: int) -> bool:
        return self._whole.remote(self._rows[row])

    def remark(self, row: int) -> tuple[str, str] | None:
        return self._whole.remark(self._rows[row])

    def hint(self, row: int) -> str:
        return self._whole.hint(self._rows[row])

    def label(self, row: int) -> int:
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
