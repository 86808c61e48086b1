"""Rows of tables: their ids, names and labels, whatever their inputs are made of."""

from collections.abc import Hashable, Iterator, Sequence
from pathlib import PurePath
from typing import Any, Protocol

import torch
from torch import Tensor

from gradood.data._labels import class_labels
from gradood.data._stamps import file_stamps
from gradood.data._storage import absolute_folder, file_digest
from gradood.data.row_source import RowSource, printable
from gradood.errors import BadRowError, DataError

__all__ = ["Columns", "Table", "TableSource"]


class Table(Protocol):
    """Rows and columns of the files of one data set; see `gradood.data._tables.Tables`."""

    paths: tuple[PurePath, ...]
    rows: int

    def value(self, row: int, column: str, together: tuple[str, ...]) -> Any: ...
    def values(self, name: str) -> list[Any]: ...
    def text(self, row: int, column: str) -> str | None: ...
    def uri(self, path: PurePath) -> str: ...
    def name(self, path: PurePath) -> str: ...
    def partition(self, path: PurePath, key: str) -> str | None: ...
    def place(self, row: int) -> tuple[PurePath, int]: ...


class Columns(Protocol):
    """Which columns hold what; see `gradood.data._parquet_columns.ParquetColumns`."""

    @property
    def label(self) -> str | None: ...
    @property
    def name(self) -> str | None: ...
    @property
    def plain(self) -> bool: ...
    @property
    def partition(self) -> bool: ...
    @property
    def classes(self) -> tuple[str, ...] | None: ...
    @property
    def named(self) -> bool: ...
    @property
    def item(self) -> tuple[str, ...]: ...


class TableSource(RowSource):
    """Rows of tables, one file after another.

    An id is the file's name, the row's number in it, and the row's own name if it has one, such as
    ``test-00000-of-00002.parquet:17:cat.png``.

    Args:
        source: as the user named it.
        tables: the files.
        columns: which of their columns hold what.
        labeled: False to leave labels, else they are used if there are any.
    """

    def __init__(
        self, source: str, tables: Table, columns: Columns, *, labeled: bool | None
    ) -> None:
        self.source = source
        self.place = absolute_folder(source).removesuffix("/")
        self._tables = tables
        self._columns = columns
        self.labeled = columns.label is not None and labeled is not False
        self._known: Sequence[int | None] | None = None
        self._digests: dict[PurePath, str] = {}
        if self.labeled:
            self.classes = columns.classes
            if columns.named:
                self._every_label()

    def __len__(self) -> int:
        return self._tables.rows

    def id(self, row: int) -> str:
        path, inside = self._tables.place(row)
        column = self._columns.name
        name = None if column is None else self._tables.text(row, column)
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

    def label(self, row: int) -> int:
        if self._columns.plain:
            column = self._columns.label
            assert column is not None
            value = self._tables.value(row, column, self._columns.item)
        else:
            value = self._every_label()[row]
        if value is None:
            raise BadRowError(
                f"{self.where(row)} has no label in {self._columns.label!r}; expected an integer. "
                "Leave that row out, or pass labeled=False.",
                "no_label",
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

    def _file_stamps(self) -> Sequence[str | None]:
        """Of each row the stamp of its file."""
        paths = self._tables.paths
        files = file_stamps([self._tables.uri(path) for path in paths])
        known = dict(zip(paths, files, strict=True))
        return [known[self._tables.place(row)[0]] for row in range(len(self))]

    def origins(self, rows: Sequence[int]) -> Iterator[str]:
        for row in rows:
            path, inside = self._tables.place(row)
            if path not in self._digests:
                self._digests[path] = file_digest(self._tables.uri(path))
            yield f"{self._digests[path]} {inside}"

    def _every_label(self) -> Sequence[int | None]:
        """Of each row; read when first asked for."""
        if self._known is None:
            name = self._columns.label
            assert name is not None
            if self._columns.partition:
                rows = range(len(self))
                values = [self._tables.partition(self._tables.place(r)[0], name) for r in rows]
            else:
                values = self._tables.values(name)
            self._known, classes = class_labels(values)
            self.classes = self.classes if classes is None else classes
        return self._known
