"""Marks of a person, as the page exports them."""

import csv
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast

from gradood._io.arguments import file_path
from gradood.errors import DataError

__all__ = ["COLUMNS", "Mark", "read_marks"]

COLUMNS = ("job", "id", "mark", "class")
"""Columns that an export has at least; others are for people."""
_LONGEST = 64 * 2**20
_CLASS = re.compile(r"\d{1,9}", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """What a person says of an item.

    Attributes:
        id: of the item.
        mark: known, unknown or unsure.
        label: its true class, if the person named it.
    """

    id: str
    mark: Literal["known", "unknown", "unsure"]
    label: int | None


def read_marks(file: Path, job: str) -> dict[str, Mark]:
    """Marks by id.

    A cell that a spreadsheet would take for a formula is exported behind an apostrophe, which is
    taken off here.

    Args:
        file: a CSV file that the page exported.
        job: digest of the job that the page was of.

    Raises:
        DataError: it is absent, no such CSV, of another job, or an item is marked twice.
        ConfigError: `file` names none.
    """
    found: dict[str, Mark] = {}
    file = file_path(file, "file", "the CSV file that the page exported")
    try:
        if file.stat().st_size > _LONGEST:
            raise DataError(f"{str(file)!r} is larger than {_LONGEST:,} bytes; no export is.")
        with file.open(encoding="utf-8-sig", newline="") as stream:
            rows = csv.DictReader(stream, strict=True)
            if not set(COLUMNS) <= set(rows.fieldnames or ()):
                raise DataError(
                    f"{str(file)!r} has not the columns {', '.join(COLUMNS)}; expected the CSV "
                    "file that the page exported."
                )
            for row in rows:
                mark = _mark(row, job, f"line {rows.line_num} of {str(file)!r}")
                if mark.id in found:
                    raise DataError(f"{str(file)!r} marks {mark.id[:80]!r} twice.")
                found[mark.id] = mark
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{str(file)!r} cannot be read as CSV: {error}") from error
    if not found:
        raise DataError(f"{str(file)!r} marks nothing.")
    return found


def _mark(row: dict[str, str | None], job: str, where: str) -> Mark:
    values = {name: row.get(name) or "" for name in COLUMNS}
    if values["job"] != job:
        raise DataError(f"{where} is of another job: the page was made of other scores.")
    mark, label = values["mark"], values["class"].strip()
    if mark not in ("known", "unknown", "unsure"):
        raise DataError(f"{where} has the mark {mark[:40]!r}; expected known, unknown or unsure.")
    if label and not _CLASS.fullmatch(label):
        raise DataError(f"{where} has the class {label[:40]!r}; expected its number, or nothing.")
    identity = values["id"][1:] if values["id"].startswith("'") else values["id"]
    return Mark(
        id=identity,
        mark=cast('Literal["known", "unknown", "unsure"]', mark),
        label=int(label) if label else None,
    )
