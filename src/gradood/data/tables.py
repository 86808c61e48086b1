"""Rows of several Parquet files, read one row group at a time."""

import os
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import accumulate
from pathlib import PurePath
from typing import Any, final

from gradood.data.extras import arrow, parquet
from gradood.errors import DataError

__all__ = ["Tables"]


@final
class Tables:
    """Parquet files, one after another.

    No file stays open and no thread is started, so that an instance works in the processes of a
    `DataLoader`, forked or spawned. Row groups read last are kept.

    Args:
        paths: the files.
        cache_bytes: how much of the row groups read last is kept; always at least the last.
        filesystem: a `pyarrow.fs.FileSystem` that the paths are of; None for this machine's own.

    Attributes:
        paths: the files.
        schemas: `pyarrow.Schema` of each.
        rows: of all files together.

    Raises:
        DataError: a file is damaged, or no Parquet.
    """

    def __init__(
        self, paths: Sequence[PurePath], *, cache_bytes: int, filesystem: Any = None
    ) -> None:
        self.paths = tuple(paths)
        self._filesystem = filesystem
        self.schemas: list[Any] = []
        self._footers: list[Any] = []
        self._groups: list[tuple[int, int]] = []
        self._firsts: list[int] = []
        counts: list[int] = []
        for number, path in enumerate(self.paths):
            schema, footer = self._opened(path)
            self.schemas.append(schema)
            self._footers.append(footer)
            self._firsts.append(sum(counts))
            for group in range(footer.num_row_groups):
                self._groups.append((number, group))
                counts.append(footer.row_group(group).num_rows)
        self._starts = [0, *accumulate(counts)]
        self.rows = self._starts[-1]
        self._cache_bytes = cache_bytes
        self._cache: dict[tuple[int, tuple[str, ...]], Any] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_cache": {}}

    def value(self, row: int, column: str, together: tuple[str, ...]) -> Any:
        """One value, as a Python object; None where there is none.

        Args:
            row: counted through all files.
            column: its name; ``struct.field`` for a field of a struct.
            together: the columns to read at once, `column` among them.

        Raises:
            DataError: the row group is damaged.
        """
        group = bisect_right(self._starts, row) - 1
        return self._group(group, together).column(column)[row - self._starts[group]].as_py()

    def column(self, name: str) -> Any:
        """A whole column as `pyarrow.ChunkedArray`; the others are not read.

        Raises:
            DataError: a row group is damaged.
        """
        groups = range(len(self._groups))
        parts = [self._read(group, (name,)).column(name) for group in groups]
        chunks = [chunk for part in parts for chunk in part.chunks]
        return arrow().chunked_array(chunks, type=None if chunks else arrow().int64())

    def place(self, row: int) -> tuple[PurePath, int]:
        """The file that holds a row, and the row's number in it."""
        number = self._groups[bisect_right(self._starts, row) - 1][0]
        return self.paths[number], row - self._firsts[number]

    def _group(self, group: int, columns: tuple[str, ...]) -> Any:
        # Taken out and put back, so that the dictionary's order is that of use.
        table = self._cache.pop((group, columns), None)
        if table is None:
            table = self._read(group, columns)
            size = table.nbytes + sum(kept.nbytes for kept in self._cache.values())
            for oldest in list(self._cache):
                if size <= self._cache_bytes:
                    break
                size -= self._cache.pop(oldest).nbytes
        self._cache[(group, columns)] = table
        return table

    def _read(self, group: int, columns: tuple[str, ...]) -> Any:
        number, inside = self._groups[group]
        path = self.paths[number]
        try:
            with self._file(
                path, metadata=self._footers[number], page_checksum_verification=True
            ) as file:
                table = file.read_row_group(inside, columns=list(columns), use_threads=False)
                return table.flatten()
        except (arrow().ArrowException, OSError) as error:
            raise DataError(
                f"row group {inside} of {str(path)!r} cannot be read: {_first_line(error)}; "
                "expected a sound Parquet file. Copy it again."
            ) from error

    @contextmanager
    def _file(self, path: PurePath, **options: Any) -> Iterator[Any]:
        """A `pyarrow.parquet.ParquetFile`, open."""
        with ExitStack() as stack:
            source: Any = str(path)
            if self._filesystem is None and not source.isprintable():
                # What takes a path takes text, which a name that is not UTF-8 is not.
                source = stack.enter_context(arrow().OSFile(os.fsencode(path)))
            made = parquet().ParquetFile(
                source, filesystem=self._filesystem, pre_buffer=False, **options
            )
            yield stack.enter_context(made)

    def _opened(self, path: PurePath) -> tuple[Any, Any]:
        """Schema and footer."""
        try:
            with self._file(path) as file:
                return file.schema_arrow, file.metadata
        except (arrow().ArrowException, OSError) as error:
            raise DataError(
                f"{str(path)!r} cannot be read as Parquet: {_first_line(error)}; expected a sound "
                "Parquet file. Copy it again."
            ) from error


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
