"""Images in Parquet files, in the Hugging Face convention or as a plain column of bytes."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import final

from gradood.data._parquet_columns import IMAGE, LABEL, ParquetColumns, encoded_value
from gradood.data._stamps import file_stamps
from gradood.data._storage import (
    encoded_file,
    files_digest,
    joined,
    local_path,
    parent_folder,
)
from gradood.data._table_source import TableSource
from gradood.data._tables import open_tables
from gradood.data.image_source import ImageSource
from gradood.errors import BadImageError, ConfigError

__all__ = ["CACHE_BYTES", "ParquetSource"]

CACHE_BYTES = 64 * 2**20
"""Row groups kept in memory, per process, unless another size is asked for."""


@final
class ParquetSource(TableSource, ImageSource):
    """Rows of Parquet files, one after another.

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
        tables = open_tables(source, cache_bytes=cache_bytes)
        columns = ParquetColumns.of(tables, image=image, label=label, name=name, labeled=labeled)
        super().__init__(source, tables, columns, labeled=labeled)
        self._pixels, self._points = columns.pixels, columns.points

    def where(self, row: int) -> str:
        path, inside = self._tables.place(row)
        return f"the image in row {inside} of {str(path)!r}"

    def encoded(self, row: int) -> bytes | Path:
        if self._points:
            return encoded_file(self._pointed(row))
        try:
            value = self._tables.value(row, self._pixels, self._columns.item)
        except (MemoryError, ImportError):
            raise
        except Exception as error:
            raise BadImageError(f"it cannot be read: {error}", "unreadable") from error
        return encoded_value(value)

    def remote(self, row: int) -> bool:
        return self._points and local_path(self._pointed(row)) is None

    def stamps(self) -> Sequence[str | None]:
        if self._points:
            return file_stamps([self._pointed(row) for row in range(len(self))])
        return self._file_stamps()

    def content(self, rows: Sequence[int]) -> str:
        if self._points:
            return files_digest(self._pointed(row) for row in rows)
        total = hashlib.sha256(self._pixels.encode())
        for origin in self.origins(rows):
            total.update(f"{origin}\n".encode("ascii"))
        return total.hexdigest()

    def _pointed(self, row: int) -> str:
        """Where the image of a row is, whose column holds paths."""
        value = self._tables.value(row, self._pixels, self._columns.item)
        folder = parent_folder(self._tables.uri(self._tables.place(row)[0]))
        return joined(folder, "" if value is None else str(value))
