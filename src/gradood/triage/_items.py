"""The items of a scoring job, as columns; and what else is known of them, by id."""

import hashlib
import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from gradood._io.arguments import file_path
from gradood.batch import finished_shards
from gradood.data._extras import table_of
from gradood.errors import DataError

__all__ = ["Details", "Items", "read_details", "read_items"]

_FROM_EXPLAIN = "expected the Parquet file that gradood explain wrote, by --out."


@dataclass(frozen=True, eq=False, slots=True)
class Items:
    """Every item of a job, scored or not.

    Attributes:
        ids: as the job wrote them.
        uris: where each is.
        names: of the detectors.
        each: (detectors, items) p-values; NaN where there is none.
        p_value: (items,) of the decision: that of all detectors together, or of the only one.
        score: (items,) likewise.
        flagged: (items,) whether it was scored and flagged. One that was not scored is neither
            known nor unknown: it is in no list of flagged ones, and takes no mark.
        label: (items,) predicted class; −1 if unknown.
        status: of each.
        artifact: SHA-256 of the detector file that scored them.
        job: digest of the scored ids and the detector: tells one page from another.
        place: of the input, as the job says; empty if it does not.
        preprocess: as the job says; rows of tables have a ``kind``.
        errors: id → why it was not scored, in a sentence, where the job says so.
    """

    ids: list[str]
    uris: list[str]
    names: tuple[str, ...]
    each: np.ndarray
    p_value: np.ndarray
    score: np.ndarray
    flagged: np.ndarray
    label: np.ndarray
    status: list[str]
    artifact: str
    job: str
    place: str
    preprocess: Mapping[str, Any] = field(default_factory=dict)
    errors: Mapping[str, str] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def tested(self) -> np.ndarray:
        """(items,) whether an item has a p-value; one that could not be read has none."""
        return ~np.isnan(self.p_value)

    @property
    def unscored(self) -> dict[str, int]:
        """How many were not scored, by status, the most frequent first."""
        pairs = zip(self.status, self.tested, strict=True)
        return dict(Counter(status for status, tested in pairs if not tested).most_common())


def read_items(folder: Path, decision: str | None = None) -> Items:
    """The items of a job.

    Args:
        folder: of the results of `gradood.batch.score_images`.
        decision: the detector that decides; None for all together, or the only one.

    Raises:
        DataError: it holds no results, of several detectors' files, or none decides alone.
        ConfigError: `folder` names none.
    """
    folder = file_path(folder, "folder", "the folder that gradood score wrote, by --out")
    tables = [shard.table for shard in finished_shards(folder)]
    if not tables or not sum(map(len, tables)):
        raise DataError(f"{str(folder)!r} holds no scored item yet.")
    names = _detectors(tables[0].column_names)
    prefix = _decision(tables[0].column_names, names, decision)

    def column(name: str) -> list[Any]:
        return [value for table in tables for value in table.column(name).to_pylist()]

    def numbers(name: str) -> np.ndarray:
        return np.array([np.nan if v is None else v for v in column(name)], np.float64)

    ids, artifacts = column("id"), sorted(set(column("artifact")))
    if len(artifacts) > 1:
        raise DataError(
            f"{str(folder)!r} was scored with {len(artifacts)} detector files, whose p-values are "
            "not of one calibration; score with one."
        )
    place, preprocess = _input(folder)
    p_value = numbers(f"{prefix}p_value")
    total = hashlib.sha256(json.dumps([artifacts, sorted(ids)]).encode("ascii"))
    return Items(
        ids=ids,
        uris=column("uri"),
        names=names,
        each=np.stack([numbers(f"{name}.p_value") for name in names]),
        p_value=p_value,
        score=numbers(f"{prefix}score"),
        flagged=np.array(column(f"{prefix}is_ood"), bool) & ~np.isnan(p_value),
        label=np.array(column("label"), np.int64),
        status=column("status"),
        artifact=artifacts[0],
        job=total.hexdigest(),
        place=place,
        preprocess=preprocess,
        errors={one: text for one, text in zip(ids, _errors(tables), strict=True) if text},
    )


def _errors(tables: list[Any]) -> list[str | None]:
    return [
        text
        for table in tables
        for text in (
            table.column("error").to_pylist()
            if "error" in table.column_names
            else [None] * len(table)
        )
    ]


def _detectors(columns: list[str]) -> tuple[str, ...]:
    return tuple(name.removesuffix(".score") for name in columns if name.endswith(".score"))


def _decision(columns: list[str], names: tuple[str, ...], wanted: str | None) -> str:
    """The prefix of the columns of what decides."""
    if wanted is not None:
        if wanted not in names:
            raise DataError(f"no detector is called {wanted!r}; there are {', '.join(names)}.")
        return f"{wanted}."
    if "is_ood" in columns:
        return ""
    if len(names) == 1:
        return f"{names[0]}."
    raise DataError(
        f"{', '.join(names)} were not combined, so none decides alone; name one by --decision."
    )


def _input(folder: Path) -> tuple[str, Mapping[str, Any]]:
    """Where the input is and how it was preprocessed; empty if the job does not say."""
    try:
        job = json.loads((folder / "_job.json").read_text("utf-8"))
        place, preprocess = job["input"]["place"], job["preprocess"]
    except (OSError, ValueError, KeyError, TypeError):
        return "", {}
    return (
        place if isinstance(place, str) else "",
        preprocess if isinstance(preprocess, dict) else {},
    )


@dataclass(frozen=True, eq=False, slots=True)
class Details:
    """What a table says of items besides their scores, by id.

    Attributes:
        features: of an item, (width,) float32.
        texts: the item itself, where it is a text.
        reasons: why it was flagged, in lines, such as units with their contributions.
    """

    features: Mapping[str, np.ndarray]
    texts: Mapping[str, str]
    reasons: Mapping[str, list[str]]


def read_details(file: Path | None) -> Details:
    """A Parquet file with the column ``id`` and some of ``features``, ``text`` and ``why``.

    Args:
        file: None for nothing.

    Raises:
        DataError: it is absent, no Parquet, or a column is of another type.
        ConfigError: `file` names none.
    """
    if file is None:
        return Details({}, {}, {})
    file = file_path(file, "details", "a Parquet file")
    if not file.is_file():
        why = "is a folder" if file.is_dir() else "is not there"
        raise DataError(f"{str(file)!r} {why}; {_FROM_EXPLAIN}")
    try:
        table = table_of(file)
    except Exception as error:
        raise DataError(
            f"{str(file)!r} cannot be read as Parquet ({error}); {_FROM_EXPLAIN}"
        ) from error
    names = table.column_names
    if "id" not in names or not {"features", "text", "why"} & set(names):
        raise DataError(
            f"{str(file)!r} has the columns {', '.join(names)}; expected id, and some of features "
            "(numbers), text (a string) and why (strings)."
        )
    columns = {name: table.column(name).to_pylist() for name in names}
    ids = [str(one) for one in columns["id"]]

    def by_id(name: str) -> dict[str, Any]:
        values = zip(ids, columns.get(name, []), strict=False)
        return {key: value for key, value in values if value is not None}

    try:
        features = {key: np.array(v, np.float32) for key, v in by_id("features").items()}
        if len({vector.shape for vector in features.values()}) > 1:
            raise ValueError("features of several widths")
        reasons = {key: [str(line) for line in lines] for key, lines in by_id("why").items()}
    except (TypeError, ValueError) as error:
        raise DataError(f"{str(file)!r} has a column of another type: {error}.") from error
    return Details(features, {key: str(text) for key, text in by_id("text").items()}, reasons)
