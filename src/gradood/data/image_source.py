"""Images by row number, and image files by their paths and URLs."""

import os
from abc import abstractmethod
from collections.abc import Hashable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import final

import torch
from torch import Tensor

from gradood.data._listing import ImageLines
from gradood.data._stamps import file_stamps
from gradood.data._storage import (
    absolute_folder,
    encoded_file,
    files_digest,
    is_absolute,
    local_path,
)
from gradood.data.row_source import NAME_REMARK, RowSource, printable

__all__ = ["FileSource", "ImageSource", "NAME_REMARK", "printable"]


class ImageSource(RowSource):
    """Rows that are images; see `RowSource`."""

    @abstractmethod
    def encoded(self, row: int) -> bytes | Path:
        """The content of an image file, or where it is on this machine.

        Raises:
            BadImageError: it cannot be read.
        """

    def remote(self, row: int) -> bool:
        """Whether the image is a file of its own behind a URL."""
        return False


@final
class FileSource(ImageSource):
    """Image files, each by its path or URL.

    Args:
        source: as the user named it.
        names: paths below `base`; or absolute paths, or URLs. A name that occurs again gets the id
            ``name#2``, and so on.
        base: a path or URL that ends in ``/``.
        labels: of each file, or None.
        classes: their names in the order of the labels, if known.
        lines: of the image list that the names stand in, if they do.
        passed_over: how many files are no images, by the end of their names.
    """

    def __init__(
        self,
        source: str,
        names: Sequence[str],
        base: str,
        *,
        labels: Sequence[int] | None = None,
        classes: tuple[str, ...] | None = None,
        lines: ImageLines | None = None,
        passed_over: Mapping[str, int] | None = None,
    ) -> None:
        self.source = source
        self.place = absolute_folder(source).removesuffix("/")
        self.base = base
        self.passed_over = passed_over or {}
        self.labeled = labels is not None
        self.classes = classes
        self._names = names
        self._labels = () if labels is None else labels
        self._lines = lines
        self._duplicates = _duplicate_ids(names)

    def __len__(self) -> int:
        return len(self._names)

    def id(self, row: int) -> str:
        return self._duplicates.get(row) or printable(self._names[row])

    def uri(self, row: int) -> str:
        return printable(self._place(row))

    def name(self, row: int) -> str:
        return self._names[row]

    def where(self, row: int) -> str:
        return f"the image {self._place(row)!r}"

    def encoded(self, row: int) -> bytes | Path:
        return encoded_file(self._place(row))

    def remote(self, row: int) -> bool:
        return local_path(self._place(row)) is None

    def remark(self, row: int) -> tuple[str, str] | None:
        name = self._names[row]
        if name.isascii() or not any("\udc80" <= c <= "\udcff" for c in name):
            return None
        return NAME_REMARK, "its name is not UTF-8; the id has \\xNN for such bytes"

    def hint(self, row: int) -> str:
        name = self._names[row]
        if self._lines is None or is_absolute(name) or _exists(self._place(row)):
            return ""
        if os.path.lexists(name):
            return (
                " The working folder has it, but paths in a list are relative to the folder of the "
                "list; gradood score took them as relative to the working folder before."
            )
        labels = self._lines.labels
        if labels is not None and _exists(f"{self._place(row)} {labels[row]}"):
            return (
                " All lines of the list end in a number, which was taken for a label; there is a "
                "file of the whole name. Rename the files, or list them with their extension."
            )
        return ""

    def label(self, row: int) -> int:
        return self._labels[row]

    def labels(self) -> Tensor:
        return torch.tensor(self._labels, dtype=torch.int64)

    def groups(self) -> Sequence[Hashable]:
        if self._lines is not None:
            return self._lines.labels or [None] * len(self)
        return [name.rpartition("/")[0].partition("/")[0] for name in self._names]

    def stamps(self) -> Sequence[str | None]:
        return file_stamps([self._place(row) for row in range(len(self))])

    def content(self, rows: Sequence[int]) -> str:
        return files_digest(self._place(row) for row in rows)

    def origins(self, rows: Sequence[int]) -> Iterator[str]:
        folders: dict[str, str] = {}  # Few, where resolving takes a look at each folder above.
        for row in rows:
            place = self._place(row)
            path = local_path(place)
            if path is None:
                yield place
                continue
            if os.path.islink(path):
                yield os.path.realpath(path)
                continue
            above, name = os.path.split(path)
            if above not in folders:
                folders[above] = os.path.realpath(above)
            yield os.path.join(folders[above], name)

    def _place(self, row: int) -> str:
        name = self._names[row]
        return name if is_absolute(name) else self.base + name


def _exists(uri: str) -> bool:
    """Whether a file of this machine is there; what is behind a URL counts as there."""
    path = local_path(uri)
    return path is None or os.path.lexists(path)


def _duplicate_ids(names: Sequence[str]) -> dict[int, str]:
    """Ids of the rows whose name another row before them has as well."""
    natural = {printable(name) for name in names}
    if len(natural) == len(names):
        return {}
    counts: dict[str, int] = {}
    ids: dict[int, str] = {}
    for row, name in enumerate(names):
        text = printable(name)
        count = counts.get(text, 0) + 1
        while count > 1 and f"{text}#{count}" in natural:
            count += 1
        counts[text] = count
        if count > 1:
            ids[row] = f"{text}#{count}"
    return ids
