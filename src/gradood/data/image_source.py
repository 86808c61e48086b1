"""Images by row number: each with an id, a place it is read from, and perhaps a label."""

import hashlib
import os
from abc import ABC, abstractmethod
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

__all__ = ["FileSource", "ImageSource", "NAME_REMARK", "printable"]

NAME_REMARK = "name_not_utf8"
"""Status of a row whose name is no text, though its image is sound."""


_NOTHING: Mapping[str, int] = {}


class ImageSource(ABC):
    """The rows of a folder, a list, Parquet or archives, in a fixed order.

    It can be sent to other processes, and reads nothing but the image asked for.

    Attributes:
        source: path or URL, as the user named it.
        place: absolute path or URL of the same, without a slice.
        labeled: whether rows have labels.
        classes: their names in the order of the labels, if known.
        passed_over: how many files are no images, by the end of their names.
    """

    source: str
    place: str
    labeled: bool = False
    classes: tuple[str, ...] | None = None
    passed_over: Mapping[str, int] = _NOTHING

    @abstractmethod
    def __len__(self) -> int:
        """Rows."""

    @abstractmethod
    def id(self, row: int) -> str:
        """Printable, different from those of all other rows, the same in every run."""

    @abstractmethod
    def uri(self, row: int) -> str:
        """Where the image is, printable."""

    @abstractmethod
    def name(self, row: int) -> str:
        """What to call the image in a report; may occur twice."""

    @abstractmethod
    def where(self, row: int) -> str:
        """The image as an error message names it."""

    @abstractmethod
    def encoded(self, row: int) -> bytes | Path:
        """The content of an image file, or where it is on this machine.

        Raises:
            BadImageError: it cannot be read.
        """

    def remote(self, row: int) -> bool:
        """Whether the image is a file of its own behind a URL."""
        return False

    def remark(self, row: int) -> tuple[str, str] | None:
        """A status and a reason, if something is odd about the row itself."""
        return None

    def hint(self, row: int) -> str:
        """What may explain that the image cannot be opened, as a sentence; else empty."""
        return ""

    @abstractmethod
    def label(self, row: int) -> int:
        """Asked only where rows are labeled.

        Raises:
            DataError: this row has none.
        """

    @abstractmethod
    def labels(self) -> Tensor:
        """(rows,) int64; asked only where rows are labeled.

        Raises:
            DataError: a row has none.
        """

    @abstractmethod
    def groups(self) -> Sequence[Hashable]:
        """Of each row its class, whether labels are used or not; one value where none are known.

        Raises:
            DataError: a file cannot be read.
        """

    @abstractmethod
    def stamps(self) -> Sequence[str | None]:
        """Of each row what differs once its content was changed; None where nothing would tell.

        Cost: a look at each file, not at its content.
        """

    @abstractmethod
    def content(self, rows: Sequence[int]) -> str:
        """SHA-256 of the images in some rows, in that order; names have no part.

        Raises:
            DataError: a file cannot be read.
        """

    @abstractmethod
    def origins(self, rows: Sequence[int]) -> Iterator[str]:
        """Of each of some rows, what is the same for the same image by whatever path.

        Raises:
            DataError: a file cannot be read.
        """

    @final
    def digest(self) -> str:
        """SHA-256 over every id and place: another source has another. Contents have no part."""
        total = hashlib.sha256()
        for row in range(len(self)):
            total.update(f"{self.id(row)}\0{self.uri(row)}\0".encode())
        return total.hexdigest()


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


def printable(text: str) -> str:
    """The text on one line: control characters become ``\\n`` and such, wrong bytes ``\\xNN``.

    >>> printable("caf\\xe9 1.png"), printable("a\\udcff.png"), printable("a\\nb.png")
    ('café 1.png', 'a\\\\xff.png', 'a\\\\nb.png')
    """
    if text.isprintable():
        return text
    return "".join(map(_escaped, text))


def _escaped(character: str) -> str:
    if character.isprintable():
        return character
    if "\udc80" <= character <= "\udcff":  # How Python holds a byte that is not UTF-8.
        return f"\\x{ord(character) - 0xDC00:02x}"
    return character.encode("unicode_escape").decode("ascii")


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
