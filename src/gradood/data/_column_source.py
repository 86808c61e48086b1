"""Inputs in columns of tables: Parquet, CSV, JSON Lines, and folders of sound files."""

import hashlib
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

from gradood._engine.batches import LABEL_KEYS
from gradood.data._labels import split_column
from gradood.data._numbers import number_of
from gradood.data._parquet import CACHE_BYTES
from gradood.data._parquet_columns import LABEL, label_columns
from gradood.data._sound_folder import SoundFolder, is_sound_folder
from gradood.data._stamps import file_stamps
from gradood.data._storage import files_digest, joined, parent_folder
from gradood.data._table_source import Table, TableSource
from gradood.data._tables import Tables, open_tables
from gradood.data._text_tables import TextTable, is_text_table
from gradood.data.row_source import RowSource
from gradood.errors import BadRowError, ConfigError, suggest

__all__ = ["ColumnRows", "ColumnSource", "column_names", "numeric_columns", "open_table"]


class ColumnRows(RowSource):
    """Rows that are made of columns; see `RowSource`."""

    @abstractmethod
    def values(self, row: int) -> Mapping[str, Any]:
        """Column → value of a row, as a Python object; None where there is none.

        Raises:
            BadRowError: it cannot be read.
        """


@dataclass(frozen=True, slots=True)
class _Columns:
    """Which columns hold what; see `gradood.data._parquet_columns.ParquetColumns`."""

    inputs: tuple[str, ...]
    label: str | None
    name: str | None
    plain: bool
    partition: bool
    classes: tuple[str, ...] | None
    used: bool

    @property
    def named(self) -> bool:
        return self.label is not None and not self.plain

    @property
    def item(self) -> tuple[str, ...]:
        label = self.label if self.used and self.plain else None
        return self.inputs if label is None else tuple(dict.fromkeys((*self.inputs, label)))


@final
class ColumnSource(TableSource, ColumnRows):
    """Rows of Parquet files, of a CSV or JSON Lines file, or sound files of a folder.

    Args:
        source: path or URL of a file, or of a folder of Parquet files; or a folder of sound files.
        inputs: columns that inputs are made of.
        files: whether a text in them is the path of a file, relative to the folder of the table,
            and a struct of ``bytes`` and ``path`` is a file's content.
        label: column of labels; the default stands for any name of labels that is known.
        labeled: True to insist on labels, False to leave them, None to use them if there are any.

    Raises:
        DataError: a file is absent or damaged, or labels are not of the expected type.
        ConfigError: a column named is not in the file.
    """

    def __init__(
        self,
        source: str,
        inputs: Sequence[str],
        *,
        files: bool = False,
        label: str = LABEL,
        labeled: bool | None = None,
    ) -> None:
        table = open_table(source)
        known = column_names(table)
        for column in inputs:
            if column not in known:
                raise ConfigError(f"no column {column!r} in {source!r}: {suggest(column, known)}")
        self._physical = {column: _physical(table, column, files) for column in inputs}
        label, separator = split_column(label, known)
        found, plain, partition, classes = _label(source, table, label, labeled)
        plain = plain and separator is None
        name = "name" if "name" in known and "name" not in inputs else None
        columns = _Columns(
            inputs=tuple(dict.fromkeys(c for parts in self._physical.values() for c in parts)),
            label=found,
            name=name,
            plain=plain,
            partition=partition,
            classes=classes,
            used=labeled is not False,
        )
        super().__init__(source, table, columns, labeled=labeled, separator=separator)
        self._files = files
        if isinstance(table, SoundFolder):
            self.passed_over = table.passed_over

    def where(self, row: int) -> str:
        path, inside = self._tables.place(row)
        return f"row {inside} of {str(path)!r}"

    def values(self, row: int) -> Mapping[str, Any]:
        try:
            return {column: self._value(row, column) for column in self._physical}
        except (MemoryError, ImportError, BadRowError):
            raise
        except Exception as error:
            raise BadRowError(f"it cannot be read: {error}", "unreadable") from error

    def stamps(self) -> Sequence[str | None]:
        own = self._file_stamps()
        if not self._files:
            return own
        pointed = [self._pointed(row) for row in range(len(self))]
        paths = [path for path in pointed if path]
        found = dict(zip(paths, file_stamps(paths), strict=True))
        return [
            f"{stamp}:{found[path]}" if path else stamp
            for stamp, path in zip(own, pointed, strict=True)
        ]

    def content(self, rows: Sequence[int]) -> str:
        total = hashlib.sha256("\0".join(self._physical).encode())
        for origin in self.origins(rows):
            total.update(f"{origin}\n".encode("ascii"))
        if self._files:
            paths = [path for path in map(self._pointed, rows) if path]
            total.update(files_digest(paths).encode() if paths else b"")
        return total.hexdigest()

    def _value(self, row: int, column: str) -> Any:
        parts = [
            self._tables.value(row, part, self._columns.item) for part in self._physical[column]
        ]
        value = next((part for part in parts if part is not None), None)
        if isinstance(value, dict) and self._files:
            value = next((value[k] for k in ("bytes", "path") if value.get(k) is not None), None)
        if isinstance(value, str) and self._files:
            folder = parent_folder(self._tables.uri(self._tables.place(row)[0]))
            return joined(folder, value)
        return value

    def _pointed(self, row: int) -> str | None:
        """The file that a row names; None if it names none."""
        try:
            found = [value for value in self.values(row).values() if isinstance(value, str)]
        except BadRowError:
            return None
        return found[0] if found else None


def open_table(source: str) -> Tables | TextTable | SoundFolder:
    """A Parquet file, a folder of such, a CSV or JSON Lines file, or a folder of sound files.

    Raises:
        DataError: it is absent or damaged.
    """
    if is_text_table(source.rstrip("/").rpartition("/")[2]):
        return TextTable(source)
    if is_sound_folder(source):
        return SoundFolder(source)
    return open_tables(source, cache_bytes=CACHE_BYTES)


def column_names(table: Tables | TextTable | SoundFolder) -> list[str]:
    """Names of the columns that all files have."""
    if not isinstance(table, Tables):
        return list(table.names)
    first, *others = [schema.names for schema in table.schemas]
    return [name for name in first if all(name in names for names in others)]


def numeric_columns(table: Tables | TextTable | SoundFolder) -> list[str]:
    """Names of the columns of numbers, without those that are called as labels are."""
    names = [name for name in column_names(table) if name not in (*LABEL_KEYS, "name", "id")]
    if not isinstance(table, Tables):
        return [name for name in names if _all_numbers(table.values(name))]
    kinds = {name: str(table.schemas[0].field(name).type) for name in names}
    plain = ("int", "uint", "float", "double", "half", "bool", "decimal")
    return [name for name in names if kinds[name].startswith(plain)]


def _all_numbers(values: Sequence[Any]) -> bool:
    """Whether most values that there are read as numbers: a broken row makes no text column."""
    known = [value for value in values if value is not None]
    return bool(known) and 2 * sum(map(_is_number, known)) > len(known)


def _is_number(value: Any) -> bool:
    try:
        number_of(value)
    except (TypeError, ValueError):
        return False
    return True


def _physical(table: Tables | TextTable | SoundFolder, column: str, files: bool) -> tuple[str, ...]:
    """The columns that hold a value; of a struct of files, its fields."""
    if not isinstance(table, Tables) or not files:
        return (column,)
    kind: Any = table.schemas[0].field(column).type
    fields = [kind.field(i).name for i in range(kind.num_fields)] if _is_struct(kind) else []
    wanted = tuple(f"{column}.{name}" for name in ("bytes", "path") if name in fields)
    return wanted or (column,)


def _is_struct(kind: Any) -> bool:
    return str(kind).startswith("struct<")


def _label(
    source: str, table: Table, label: str, labeled: bool | None
) -> tuple[str | None, bool, bool, tuple[str, ...] | None]:
    """The column of labels, whether it is plain numbers, of folders, and names of classes."""
    if isinstance(table, Tables):
        return label_columns(table, label, labeled)
    assert isinstance(table, TextTable | SoundFolder)
    names = table.names
    found = label
    if label == LABEL and label not in names:
        found = next((name for name in LABEL_KEYS if name in names), label)
    if found in names:
        return found, False, False, None
    if labeled or (label != LABEL and labeled is None):
        raise ConfigError(f"no column {label!r} in {source!r}: {suggest(label, names)}")
    return None, True, False, None
