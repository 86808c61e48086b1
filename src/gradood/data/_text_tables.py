"""Rows of one CSV or JSON Lines file, read once."""

import csv
import io
import json
import os
from collections.abc import Iterator
from pathlib import Path, PurePath
from typing import Any, final

from gradood.data._storage import local_path, read_file
from gradood.errors import BadRowError, DataError

__all__ = ["TEXT_TABLES", "TextTable", "is_text_table"]

TEXT_TABLES = (".csv", ".tsv", ".jsonl", ".ndjson")
"""Ends of the names of files that are tables of text, in lower case."""

_Row = dict[str, Any]


def is_text_table(name: str) -> bool:
    """Whether a file is taken for a table of text, by its name."""
    return name.lower().endswith(TEXT_TABLES) and not name.startswith(".")


@final
class TextTable:
    """A CSV file with a header, or a JSON Lines file with an object on each line.

    A line that is neither is a broken row, and the others are as they are. Values of a CSV file
    are texts; an empty one is none.

    Args:
        source: path or URL.

    Attributes:
        paths: the file.
        rows: in the file; empty lines are none.
        names: of the columns, in the order in which they come up.

    Raises:
        DataError: it cannot be read, is not UTF-8 throughout, or a CSV file has no header.

    Cost: reads the file, and keeps its values in memory; each process reads it once.
    """

    def __init__(self, source: str) -> None:
        self.source = source
        path = local_path(source)
        self.paths: tuple[PurePath, ...] = (PurePath(source) if path is None else path,)
        self._header: list[str] = []
        self._found: list[_Row | str] | None = None
        first = self._rows()
        self.rows = len(first)
        keys = (k for row in first if isinstance(row, dict) for k in row)
        self.names = self._header or list(dict.fromkeys(keys))

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_found": None}

    def value(self, row: int, column: str, together: tuple[str, ...] = ()) -> Any:
        """One value; None where there is none.

        Raises:
            BadRowError: the line is broken.
        """
        found = self._rows()[row]
        if isinstance(found, str):
            raise BadRowError(found, "unreadable")
        return found.get(column)

    def values(self, name: str) -> list[Any]:
        """A whole column; None in broken rows."""
        return [row.get(name) if isinstance(row, dict) else None for row in self._rows()]

    def text(self, row: int, column: str) -> str | None:
        """One value as a text; None in a broken row."""
        found = self._rows()[row]
        value = found.get(column) if isinstance(found, dict) else None
        return None if value is None else str(value)

    def uri(self, path: PurePath) -> str:
        """Absolute path or URL of the file."""
        return self.source if local_path(self.source) is None else os.path.abspath(path)

    def name(self, path: PurePath) -> str:
        """What the file is called."""
        return path.name

    def partition(self, path: PurePath, key: str) -> str | None:
        """None: such files are in no partitions."""
        return None

    def place(self, row: int) -> tuple[PurePath, int]:
        """The file, and the row's number in it."""
        return self.paths[0], row

    def _rows(self) -> list[_Row | str]:
        """Of each row its values, or what is wrong with its line."""
        if self._found is None:
            try:
                text = read_file(self.source).decode("utf-8-sig")
            except UnicodeDecodeError as error:
                raise DataError(
                    f"{self.source!r} is not UTF-8: {error.reason} at byte {error.start}; expected "
                    "a table as UTF-8 text. Save it as such."
                ) from error
            lines = self.source.lower().endswith((".jsonl", ".ndjson"))
            if lines:
                self._found = list(_objects(text))
            else:
                self._header, found = _records(self.source, text)
                self._found = list(found)
        return self._found


def _objects(text: str) -> Iterator[_Row | str]:
    """Of each line of JSON Lines its object, or what is wrong with it."""
    for line in text.split("\n"):
        if not line.strip():
            continue
        try:
            found = json.loads(line)
        except (ValueError, RecursionError) as error:
            yield f"its line is no JSON: {error}."
            continue
        if isinstance(found, dict):
            yield found
        else:
            yield f"its line is a JSON {type(found).__name__}; expected an object of columns."


def _records(source: str, text: str) -> tuple[list[str], Iterator[_Row | str]]:
    """Columns of CSV, and of each record its values by column, or what is wrong with it."""
    records = _fields(text, "\t" if source.lower().endswith(".tsv") else ",")
    first = next(records, [])
    header = [] if isinstance(first, str) else [name.strip() for name in first]
    if not header or not all(header) or len(set(header)) < len(header):
        raise DataError(
            f"the first line of {Path(source).name!r} is {header or first}; expected the names of "
            "its columns, each of its own."
        )

    def row(fields: list[str] | str) -> _Row | str:
        if isinstance(fields, str):
            return fields
        return {n: f if f.strip() else None for n, f in zip(header, fields, strict=True)}

    return header, map(row, records)


def _fields(text: str, delimiter: str) -> Iterator[list[str] | str]:
    """The fields of each record, as many as the first has, or what is wrong with it.

    After a broken record the reader goes on at the line behind its first one: a quote that is
    never closed would else take the lines down to the next quote for one field.
    """
    lines = io.StringIO(text, newline="").readlines()
    start, width = 0, 0
    while start < len(lines):
        reader = csv.reader(_from(lines, start), delimiter=delimiter, strict=True)
        read = 0
        try:
            for fields in reader:
                width = width or len(fields)
                if fields and len(fields) != width:
                    yield f"its line has {len(fields)} fields; expected {width}."
                    if reader.line_num > read + 1:
                        break
                elif fields:
                    yield fields
                read = reader.line_num
            else:
                return
        except csv.Error as error:
            yield f"its line is no CSV: {error}."
        start += read + 1


def _from(lines: list[str], start: int) -> Iterator[str]:
    """The lines from one on, without a copy of them."""
    return (lines[place] for place in range(start, len(lines)))
