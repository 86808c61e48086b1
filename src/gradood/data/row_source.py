"""Inputs by row number: each with an id, a place it is read from, and perhaps a label."""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Hashable, Iterator, Mapping, Sequence
from typing import final

from torch import Tensor

__all__ = ["NAME_REMARK", "RowSource", "printable"]

NAME_REMARK = "name_not_utf8"
"""Status of a row whose name is no text, though its image is sound."""


_NOTHING: Mapping[str, int] = {}


class RowSource(ABC):
    """The rows of a folder, a list, a table or archives, in a fixed order.

    It can be sent to other processes, and reads nothing but the row asked for.

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
        """Where the row is, printable."""

    @abstractmethod
    def name(self, row: int) -> str:
        """What to call the row in a report; may occur twice."""

    @abstractmethod
    def where(self, row: int) -> str:
        """The row as an error message names it."""

    def remark(self, row: int) -> tuple[str, str] | None:
        """A status and a reason, if something is odd about the row itself."""
        return None

    def hint(self, row: int) -> str:
        """What may explain that the row cannot be used, as a sentence; else empty."""
        return ""

    @abstractmethod
    def label(self, row: int) -> int | Tensor:
        """A class; or (classes,) int64 0 or 1 of each, where several may hold.

        Asked only where rows are labeled.

        Raises:
            DataError: this row has none.
        """

    @abstractmethod
    def labels(self) -> Tensor:
        """(rows,) int64; or (rows, classes) 0 or 1, where several may hold.

        Asked only where rows are labeled.

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
        """SHA-256 of the inputs in some rows, in that order; names have no part.

        Raises:
            DataError: a file cannot be read.
        """

    @abstractmethod
    def origins(self, rows: Sequence[int]) -> Iterator[str]:
        """Of each of some rows, what is the same for the same input by whatever path.

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
