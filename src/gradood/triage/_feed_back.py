"""What marks may be used for: data to fit on, known unknowns to train with, a calibration sample.

A false-alarm rate is promised for items drawn like those to come. Items that were looked at because
they were flagged are not: a calibration on them would void the promise. So each file written here
says how its items were selected, and a calibration takes those of a random sample alone.
"""

import json
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gradood._io.arguments import file_path, instance
from gradood._io.atomic import replace
from gradood.data import ImageSource
from gradood.data._column_source import ColumnRows
from gradood.data._extras import arrow, parquet
from gradood.errors import DataError
from gradood.triage._items import Items
from gradood.triage._marks import Mark
from gradood.triage._sample import ReviewSample
from gradood.triage._selection import RULE
from gradood.triage._table_rows import check_inputs, row_columns

__all__ = ["FeedBack", "feed_back"]


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedBack:
    """What was written.

    Attributes:
        files: by what they are for: marks, known, unknown, sample.
        counts: items in each.
        guessed: known items whose class nobody named, which have that of the model.
        open: items of the random sample that nobody marked; a sample is written once none is.
    """

    files: Mapping[str, str]
    counts: Mapping[str, int]
    guessed: int
    open: int


def feed_back(
    items: Items,
    marks: Mapping[str, Mark],
    sample: ReviewSample,
    inputs: ImageSource | ColumnRows | None,
    out: Path,
) -> FeedBack:
    """Write what the marks may be used for, as Parquet.

    ``known`` has the items marked known that are not of the random sample, for ``gradood fit
    --merge``; ``unknown`` those marked unknown, for ``gradood train --aux``; ``sample`` the items
    of the random sample that are not marked unknown, for ``gradood calibrate``, once all of it is
    marked. Files of these names that earlier marks gave are replaced or removed. An item of the
    sample that a person is unsure of stays in it: without it, known items that are hard to tell
    would be missing, and the thresholds too low.

    Args:
        items: of the job.
        marks: by id.
        sample: the random sample of the page.
        inputs: the job's images, or the rows of its table; None writes the marks alone.
        out: a folder.

    Raises:
        ConfigError: an argument is of another type.
        DataError: a mark is of no item of the job, or of one that was not scored; or its input is
            not there any more.
        OSError: the folder cannot be written.
    """
    _check(items, marks, sample, inputs)
    out = file_path(out, "out", "the name of a folder")
    places = {one: i for i, one in enumerate(items.ids)}
    _check_places(items, marks, places)
    reviewed = set(sample.ids)
    picked = {"selected": "flagged", "job": items.job}
    parts: dict[str, tuple[list[str], Mapping[str, Any]]] = {
        "known": (_marked(marks, "known", but=reviewed), {**picked, "mark": "known"}),
        "unknown": (_marked(marks, "unknown"), {**picked, "mark": "unknown"}),
    }
    unmarked = [one for one in sample.ids if one not in marks]
    if sample.ids and not unmarked:
        kept = [one for one in sample.ids if marks[one].mark != "unknown"]
        told = {name: sum(marks[i].mark == name for i in sample.ids) for name in _NAMES}
        parts["sample"] = (kept, {**sample.rule(), "reviewed": told})
    tables: dict[str, tuple[Any, Mapping[str, Any]]] = {}
    tables["marks"] = (_mark_table(items, marks, places, reviewed), picked)
    counts = {"marks": len(marks)}
    if inputs is not None:
        rows = {inputs.id(row): row for row in range(len(inputs))}
        for name, (ids, rule) in parts.items():
            if ids:
                table = _input_table(items, marks, places, inputs, rows, ids)
                tables[name], counts[name] = (table, rule), len(ids)
    files = _written(out, tables)
    guessed = sum(marks[one].label is None for one in parts["known"][0])
    return FeedBack(files=files, counts=counts, guessed=guessed, open=len(unmarked))


def _check_places(items: Items, marks: Mapping[str, Mark], places: Mapping[str, int]) -> None:
    """Refuse marks of other items, and of those that have no score: what was not read is no data.

    Raises:
        DataError: there are some.
    """
    strangers = [one for one in marks if one not in places]
    if strangers:
        raise DataError(
            f"{len(strangers)} marks are of no item here, such as {strangers[0][:80]!r}."
        )
    tested = items.tested
    unscored = [one for one in marks if not tested[places[one]]]
    if unscored:
        status = items.status[places[unscored[0]]]
        raise DataError(
            f"{len(unscored)} marks are of items that were not scored, such as "
            f"{unscored[0][:80]!r} ({status}): they are neither known nor unknown, and no data for "
            "a fit. Take these rows out, or mend the inputs and score them again."
        )


def _check(items: object, marks: object, sample: object, inputs: object) -> None:
    """Refuse arguments of other types.

    Raises:
        ConfigError: one is.
    """
    instance(items, Items, "items", "what gradood.triage.read_items gave")
    instance(sample, ReviewSample, "sample", "what gradood.triage.review_sample gave")
    if inputs is not None:
        check_inputs(inputs)
    hint = "read_marks reads the file that the page exported."
    for mark in instance(marks, Mapping, "marks", "marks by id", hint).values():
        instance(mark, Mark, "marks", "a gradood.triage.Mark for each id", hint)


def _written(out: Path, tables: Mapping[str, tuple[Any, Mapping[str, Any]]]) -> dict[str, str]:
    """Names of the files of some tables; what earlier marks gave, and these do not, is removed."""
    out.mkdir(parents=True, exist_ok=True)
    for name in _FILES:
        (out / f"{name}.parquet").unlink(missing_ok=True)
    for name, (table, rule) in tables.items():
        _write(out / f"{name}.parquet", table, rule)
    return {name: str(out / f"{name}.parquet") for name in tables}


_NAMES = ("known", "unknown", "unsure")
_FILES = ("sample", "known", "unknown", "marks")


def _marked(marks: Mapping[str, Mark], wanted: str, but: Container[str] = ()) -> list[str]:
    return sorted(one for one, mark in marks.items() if mark.mark == wanted and one not in but)


def _mark_table(
    items: Items, marks: Mapping[str, Mark], places: Mapping[str, int], reviewed: set[str]
) -> Any:
    pa = arrow()
    ids = list(marks)
    at = [places[one] for one in ids]
    tested = items.tested[at]
    return pa.table(
        {
            "id": pa.array(ids, pa.string()),
            "uri": pa.array([items.uris[i] for i in at], pa.string()),
            "mark": pa.array([marks[one].mark for one in ids], pa.string()),
            "class": pa.array([marks[one].label for one in ids], pa.int64()),
            "predicted": pa.array(items.label[at]),
            "p_value": pa.array(items.p_value[at], mask=~tested),
            "flagged": pa.array(items.flagged[at]),
            "in_sample": pa.array([one in reviewed for one in ids]),
        }
    )


def _input_table(
    items: Items,
    marks: Mapping[str, Mark],
    places: Mapping[str, int],
    inputs: ImageSource | ColumnRows,
    rows: Mapping[str, int],
    ids: Sequence[str],
) -> Any:
    pa = arrow()
    gone = [one for one in ids if one not in rows]
    if gone:
        raise DataError(
            f"{len(gone)} marked inputs are not in {inputs.source!r}, such as {gone[0][:80]!r}; "
            "name where they are by --images."
        )
    at = [rows[one] for one in ids]
    columns = row_columns(inputs, at) if isinstance(inputs, ColumnRows) else _pictures(inputs, at)
    given = [marks[one].label for one in ids]
    predicted = [int(items.label[places[one]]) for one in ids]
    labels = [p if g is None else g for g, p in zip(given, predicted, strict=True)]
    return pa.table(
        {
            **columns,
            "label": pa.array(labels, pa.int64()),
            "label_given": pa.array([label is not None for label in given]),
            "name": pa.array(ids, pa.string()),
        }
    )


def _pictures(images: ImageSource, rows: Sequence[int]) -> dict[str, Any]:
    pa = arrow()
    pictures: list[dict[str, Any]] = []
    for row in rows:
        encoded = images.encoded(row)
        content = encoded.read_bytes() if isinstance(encoded, Path) else encoded
        pictures.append({"bytes": content, "path": None})
    kind = pa.struct({"bytes": pa.binary(), "path": pa.string()})
    return {"image": pa.array(pictures, kind)}


def _write(file: Path, table: Any, rule: Mapping[str, Any]) -> None:
    from io import BytesIO

    text = json.dumps(rule, sort_keys=True).encode("ascii")
    stream = BytesIO()
    parquet().write_table(table.replace_schema_metadata({RULE: text}), stream, compression="zstd")
    replace(file, [stream.getvalue()], lambda written: None)
