"""Images in Parquet files, in the Hugging Face convention or as a plain column of bytes."""

import hashlib
from collections.abc import Hashable, Iterator, Sequence
from pathlib import Path, PurePath
from typing import Any, final

import torch
from torch import Tensor

from gradood.data._extras import arrow
from gradood.data._labels import class_labels
from gradood.data._parquet_columns import IMAGE, LABEL, ParquetColumns, encoded_value
from gradood.data._stamps import file_stamps
from gradood.data._storage import (
    absolute_folder,
    encoded_file,
    file_digest,
    files_digest,
    joined,
    local_path,
    parent_folder,
)
from gradood.data._tables import open_tables
from gradood.data.image_source import ImageSource, printable
from gradood.errors import BadImageError, ConfigError, DataError

__all__ = ["CACHE_BYTES", "ParquetSource"]

CACHE_BYTES = 64 * 2**20
"""Row groups kept in memory, per process, unless another size is asked for."""


@final
class ParquetSource(ImageSource):
    """Rows of Parquet files, one after another.

    An id is the file's name, the row's number in it, and the row's own name if it has one, such as
    ``test-00000-of-00002.parquet:17:cat.png``.

    Args:
        source: path or URL of a file, or of a folder of them.
        image: column of images; the default stands for any name of images that is known.
        label: column of labels; unless it is the default, it must exist; likewise.
        name: column of names; unless it is the default, it must exist.
        labeled: True to insist on labels, False to leave them, None to use them if there are any.
        cache_bytes: row groups kept in memory, per process; at least one is.

    Raises:
        DataError: a file is absent or damaged, or a column is not of the expected type.
        ConfigError: a column named is not in the file, or the size is negative.
    """

    def __init__(
        self,
        source: str,
        *,
        image: str = IMAGE,
        label: str = LABEL,
        name: str = "name",
        labeled: bool | None = None,
        cache_bytes: int = CACHE_BYTES,
    ) -> None:
        if cache_bytes < 0:
            raise ConfigError(f"cache_bytes is {cache_bytes}; expected a size in bytes, 0 or more.")
        self.source = source
        self.place = absolute_folder(source).removesuffix("/")
        self._tables = open_tables(source, cache_bytes=cache_bytes)
        self._columns = ParquetColumns.of(
            self._tables, image=image, label=label, name=name, labeled=labeled
        )
        self.labeled = self._columns.label is not None and labeled is not False
        self._names: Any = None
        self._known: Sequence[int | None] | None = None
        self._digests: dict[PurePath, str] = {}
        if self.labeled:
            self.classes = self._columns.classes
            if self._columns.named:
                self._every_label()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_names": None}

    def __len__(self) -> int:
        return self._tables.rows

    def id(self, row: int) -> str:
        path, inside = self._tables.place(row)
        column = self._columns.name
        if column is not None and self._names is None:
            self._names = self._tables.column(column).cast(arrow().string()).combine_chunks()
        name = None if column is None else self._names[row].as_py()
        file = self._tables.name(path)
        return printable(f"{file}:{inside}" + ("" if name is None else f":{name}"))

    def uri(self, row: int) -> str:
        path, inside = self._tables.place(row)
        return printable(f"{self._tables.uri(path)}#{inside}")

    def name(self, row: int) -> str:
        column = self._columns.name
        value = None if column is None else self._tables.value(row, column, (column,))
        if value is None:
            path, inside = self._tables.place(row)
            return f"{self._tables.name(path)}:{inside}"
        return str(value)

    def where(self, row: int) -> str:
        path, inside = self._tables.place(row)
        return f"the image in row {inside} of {str(path)!r}"

    def encoded(self, row: int) -> bytes | Path:
        if self._columns.points:
            return encoded_file(self._pointed(row))
        try:
            value = self._tables.value(row, self._columns.pixels, self._columns.item)
        except (MemoryError, ImportError):
            raise
        except Exception as error:
            raise BadImageError(f"it cannot be read: {error}", "unreadable") from error
        return encoded_value(value)

    def remote(self, row: int) -> bool:
        return self._columns.points and local_path(self._pointed(row)) is None

    def label(self, row: int) -> int:
        if self._columns.plain:
            column = self._columns.label
            assert column is not None
            value = self._tables.value(row, column, self._columns.item)
        else:
            value = self._every_label()[row]
        if value is None:
            raise DataError(
                f"{self.where(row)} has no label in {self._columns.label!r}; expected an integer. "
                "Leave that row out, or pass labeled=False."
            )
        return int(value)

    def labels(self) -> Tensor:
        known = self._every_label()
        missing = sum(value is None for value in known)
        if missing:
            raise DataError(
                f"{missing} of {len(known)} rows have no label in {self._columns.label!r}; "
                "expected integers. Leave those rows out, or pass labeled=False."
            )
        return torch.tensor(known, dtype=torch.int64)

    def groups(self) -> Sequence[Hashable]:
        return [None] * len(self) if self._columns.label is None else self._every_label()

    def stamps(self) -> Sequence[str | None]:
        if self._columns.points:
            return file_stamps([self._pointed(row) for row in range(len(self))])
        paths = self._tables.paths
        files = file_stamps([self._tables.uri(path) for path in paths])
        known = dict(zip(paths, files, strict=True))
        return [known[self._tables.place(row)[0]] for row in range(len(self))]

    def content(self, rows: Sequence[int]) -> str:
        if self._columns.points:
            return files_digest(self._pointed(row) for row in rows)
        total = hashlib.sha256(self._columns.pixels.encode())
        for origin in self.origins(rows):
            total.update(f"{origin}\n".encode("ascii"))
        return total.hexdigest()

    def origins(self, rows: Sequence[int]) -> Iterator[str]:
        for row in rows:
            path, inside = self._tables.place(row)
            if path not in self._digests:
                self._digests[path] = file_digest(self._tables.uri(path))
            yield f"{self._digests[path]} {inside}"

    def _pointed(self, row: int) -> str:
        """Where the image of a row is, whose column holds paths."""
        value = self._tables.value(row, self._columns.pixels, self._columns.item)
        folder = parent_folder(self._tables.uri(self._tables.place(row)[0]))
        return joined(folder, "" if value is None else str(value))

    def _every_label(self) -> Sequence[int | None]:
        """Of each row; read when first asked for."""
        if self._known is None:
            name = self._columns.label
            assert name is not None
            if self._columns.partition:
                rows = range(len(self))
                values = [self._tables.partition(self._tables.place(r)[0], name) for r in rows]
            else:
                values = self._tables.column(name).to_pylist()
            self._known, classes = class_labels(values)
            self.classes = self.classes if classes is None else classes
        return self._known
