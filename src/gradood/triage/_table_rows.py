"""Rows of tables: as text on the page, and as rows again in what is fed back."""

from collections.abc import Mapping, Sequence
from typing import Any

from gradood._engine.batches import LABEL_KEYS
from gradood._io.arguments import instance
from gradood.data import ImageSource
from gradood.data._column_source import ColumnRows, ColumnSource, column_names, open_table
from gradood.data.sources import split_text
from gradood.errors import BadRowError

__all__ = ["check_inputs", "open_rows", "row_columns", "row_texts"]

_LONGEST, _LONGEST_VALUE = 2000, 200


def open_rows(source: str, preprocess: Mapping[str, Any]) -> ColumnRows:
    """The rows of a job's table, with ids as the job wrote them.

    Args:
        source: path or URL of the table.
        preprocess: of the job, whose ``kind`` says what inputs are made of.

    Raises:
        DataError: there is no table.
        ConfigError: the column of sound is not in it.
    """
    bare = split_text(source)[0]
    if preprocess.get("kind") == "audio":
        return ColumnSource(bare, (str(preprocess["column"]),), files=True, labeled=False)
    return ColumnSource(bare, column_names(open_table(bare)), labeled=False)


def check_inputs(inputs: object) -> None:
    """Refuse what holds no inputs of a job.

    Raises:
        ConfigError: it is of another type.
    """
    hint = "gradood.batch.list_images(place) opens images, gradood.triage.open_rows a table."
    instance(inputs, (ImageSource, ColumnRows), "inputs", "images or rows of a table", hint)


def row_texts(
    rows: ColumnRows, ids: Sequence[str], preprocess: Mapping[str, Any]
) -> dict[str, str]:
    """What a person reads of each row, by id: the text, or names and values of the columns.

    Args:
        rows: of the job's table.
        ids: of those wanted; one that is gone, or cannot be read, has no text.
        preprocess: of the job.
    """
    if preprocess.get("kind") == "audio":
        return {}
    places = {rows.id(row): row for row in range(len(rows))}
    found: dict[str, str] = {}
    for one in ids:
        try:
            values = rows.values(places[one])
        except (KeyError, BadRowError):
            continue
        alone = values.get(str(preprocess.get("column")))
        if preprocess.get("kind") == "text" and isinstance(alone, str):
            found[one] = alone[:_LONGEST]
            continue
        lines = [f"{k}: {_short(v)}" for k, v in values.items() if v is not None]
        found[one] = "\n".join(lines)[:_LONGEST]
    return found


def row_columns(rows: ColumnRows, places: Sequence[int]) -> dict[str, list[Any]]:
    """The columns of some rows, without those that are read as labels or names.

    Raises:
        BadRowError: a row cannot be read.
    """
    values = [rows.values(row) for row in places]
    names = dict.fromkeys(name for row in values for name in row)
    kept = [name for name in names if name not in (*LABEL_KEYS, "name", "label_given")]
    return {name: [row.get(name) for row in values] for name in kept}


def _short(value: Any) -> str:
    text = f"{value:.6g}" if isinstance(value, float) else str(value)
    return text if len(text) <= _LONGEST_VALUE else f"{text[:_LONGEST_VALUE]} …"
