"""What a job scores: rows in a fixed order, each with an id of its own and a place to read it."""

import hashlib
import os
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import final

from gradood.data.columns import Columns
from gradood.data.remote import fetch, local_path
from gradood.data.tables import Tables
from gradood.errors import BadImageError

__all__ = ["Files", "Listing", "ParquetRows", "Part", "printable"]


class Listing(ABC):
    """Images by row number.

    It can be sent to other processes, and reads nothing but the image asked for.
    """

    source: str
    """The input, as the user named it."""

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
    def encoded(self, row: int) -> bytes | Path:
        """The content of an image file, or where it is.

        Raises:
            BadImageError: it cannot be read.
        """

    @abstractmethod
    def remark(self, row: int) -> tuple[str, str] | None:
        """A status and a reason, if something is odd about the row itself."""

    @final
    def digest(self) -> str:
        """SHA-256 over every id and place: another listing has another. Contents have no part."""
        total = hashlib.sha256()
        for row in range(len(self)):
            total.update(f"{self.id(row)}\0{self.uri(row)}\0".encode())
        return total.hexdigest()


@final
class Files(Listing):
    """Image files, each by its path or URL.

    Args:
        source: the input, as the user named it.
        names: paths below `base`; or absolute paths, or URLs. A name that occurs again gets the id
            ``name#2``, and so on.
        base: a path or URL that ends in ``/``.
    """

    def __init__(self, source: str, names: Sequence[str], base: str) -> None:
        self.source = source
        self._names = names
        self._base = base
        self._distinct = _distinct(names)

    def __len__(self) -> int:
        return len(self._names)

    def id(self, row: int) -> str:
        return self._distinct.get(row) or printable(self._names[row])

    def uri(self, row: int) -> str:
        return printable(self._place(row))

    def encoded(self, row: int) -> bytes | Path:
        place = self._place(row)
        path = local_path(place)
        return fetch(place) if path is None else path

    def remark(self, row: int) -> tuple[str, str] | None:
        name = self._names[row]
        if name.isascii() or not any("\udc80" <= c <= "\udcff" for c in name):
            return None
        return "name_not_utf8", "its name is not UTF-8; the id has \\xNN for such bytes"

    def _place(self, row: int) -> str:
        name = self._names[row]
        return name if os.path.isabs(name) or "://" in name else self._base + name


@final
class ParquetRows(Listing):
    """Rows of Parquet files, one after another.

    An id is the file's name, the row's number in it, and the row's own name if it has one, such as
    ``test-00000-of-00002.parquet:17:cat.png``.

    Args:
        source: the input, as the user named it.
        tables: the files.
        columns: which hold images and names.
        base: URL of the folder of remote files.
    """

    def __init__(self, source: str, tables: Tables, columns: Columns, base: str = "") -> None:
        self.source = source
        self._tables = tables
        self._columns = columns
        self._base = base
        column = columns.name
        self._names = None if column is None else tables.column(column).combine_chunks()

    def __len__(self) -> int:
        return self._tables.rows

    def id(self, row: int) -> str:
        path, inside = self._tables.place(row)
        name = None if self._names is None else self._names[row].as_py()
        return printable(f"{path.name}:{inside}" + ("" if name is None else f":{name}"))

    def uri(self, row: int) -> str:
        path, inside = self._tables.place(row)
        place = f"{self._base}{path}" if self._base else os.path.abspath(path)
        return printable(f"{place}#{inside}")

    def encoded(self, row: int) -> bytes:
        try:
            value = self._tables.value(row, self._columns.pixels, self._columns.item)
        except (MemoryError, ImportError):
            raise
        except Exception as error:
            raise BadImageError(f"it cannot be read: {error}", "unreadable") from error
        if value is None:
            raise BadImageError("its row holds no bytes of an image.", "empty")
        return value

    def remark(self, row: int) -> tuple[str, str] | None:
        return None


@final
class Part(Listing):
    """Some rows of a listing, under the ids they have there.

    Args:
        source: the input, as the user named it.
        whole: the listing.
        rows: which of its rows.
    """

    def __init__(self, source: str, whole: Listing, rows: range) -> None:
        self.source = source
        self._whole = whole
        self._rows = rows

    def __len__(self) -> int:
        return len(self._rows)

    def id(self, row: int) -> str:
        return self._whole.id(self._rows[row])

    def uri(self, row: int) -> str:
        return self._whole.uri(self._rows[row])

    def encoded(self, row: int) -> bytes | Path:
        return self._whole.encoded(self._rows[row])

    def remark(self, row: int) -> tuple[str, str] | None:
        return self._whole.remark(self._rows[row])


def printable(text: str) -> str:
    """The text on one line: control characters become ``\\n`` and such, wrong bytes ``\\xNN``.

    >>> printable("caf\\xe9 1.png"), printable("a\\udcff.png"), printable("a\\nb.png")
    ('café 1.png', 'a\\\\xff.png', 'a\\\\nb.png')
    """
    if text.isprintable():
        return text
    return "".join(map(_shown, text))


def _shown(character: str) -> str:
    if character.isprintable():
        return character
    if "\udc80" <= character <= "\udcff":  # How Python holds a byte that is not UTF-8.
        return f"\\x{ord(character) - 0xDC00:02x}"
    return character.encode("unicode_escape").decode("ascii")


def _distinct(names: Sequence[str]) -> dict[int, str]:
    """Ids of the rows whose name another row before them has as well."""
    natural = {printable(name) for name in names}
    if len(natural) == len(names):
        return {}
    seen: dict[str, int] = {}
    found: dict[int, str] = {}
    for row, name in enumerate(names):
        text = printable(name)
        count = seen.get(text, 0) + 1
        while count > 1 and f"{text}#{count}" in natural:
            count += 1
        seen[text] = count
        if count > 1:
            found[row] = f"{text}#{count}"
    return found
