"""``gradood explain``: why inputs are flagged."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from gradood.cli._bad_rows import TolerantLoadingOptions, source_of
from gradood.cli._detector_file import check_target, noun_of, say_passed_over
from gradood.cli._exits import Exit
from gradood.cli._groups import flag, option
from gradood.cli._options import BoundModelOptions, Force, Json, one_of
from gradood.cli._output import data, document, pairs, say
from gradood.errors import DataError

if TYPE_CHECKING:
    from gradood.attribution import Explanation
    from gradood.data import Preprocess, RowDataset
    from gradood.data._usable_rows import Fault
    from gradood.monitor import Monitor

    Found = list[tuple[str, Explanation]]

__all__ = ["explain"]

_NAMED = 5
"""Unreadable inputs that are named."""


@dataclass(frozen=True, kw_only=True)
class ExplainFiles:
    """What is read and written."""

    detector: Annotated[Path, option("FILE", "A calibrated detector.")]
    source: Annotated[
        str, option("PATH", "What to explain: a folder, Parquet, archive or list.", "--data")
    ]
    known: Annotated[
        str,
        option(
            "PATH",
            "In-distribution inputs such as those of the calibration, whose mean contributions "
            "count from and of which the nearest are named; [:2000] draws so many.",
        ),
    ]
    out: Annotated[
        Path | None,
        option(
            "FILE",
            "Parquet of id, why and features, for gradood triage --details; else it is printed.",
        ),
    ] = None
    every: Annotated[bool, flag("Explain what is not flagged too.", "--all")] = False
    reference: Annotated[
        str,
        option(
            "class|mean",
            "What contributions count from: the mean of the known inputs taken for the same class, "
            "or of all.",
        ),
    ] = "class"
    force: Force = False

    def __post_init__(self) -> None:
        _ = self.start
        if self.out is not None:
            check_target(self.out, force=self.force)

    @property
    def start(self) -> Literal["class", "mean"]:
        """What contributions count from."""
        return one_of("--reference", self.reference, ("class", "mean"))


def explain(
    model: BoundModelOptions,
    loading: TolerantLoadingOptions,
    files: ExplainFiles,
    json: Json = False,
) -> None:
    """Say why inputs are flagged: p-values, contributions of units, the class, what is near.

    Inputs are preprocessed as they were in the fit. Ids are those of gradood score. Inputs that
    cannot be read are told, and the others explained; the exit code is then 4.
    """
    from gradood.artifact import read
    from gradood.batch import load_predictor

    artifact = read(files.detector)  # Before the model is built, as that may take long.
    loaded = model.load(columns=loading.choice())
    predictor = load_predictor(
        artifact, loaded.model, override=model.override, source=str(files.detector)
    )
    monitor = predictor.monitor
    preprocess = loaded.preprocess_like(monitor.preprocess)
    known = _opened(files.known, preprocess, loading)
    monitor.remember(loading.loader(known), ids=[known.id(i) for i in range(len(known))])
    images = loading.open(files.source, preprocess, labeled=False)
    say_passed_over(images)
    bad = _unreadable(images, loading)
    rows = [row for row in range(len(images)) if row not in bad]
    readable = images.subset(rows) if bad and rows else images
    found = list(_explained(monitor, readable, loading, files)) if rows else []
    if files.out is not None:
        _write(files.out, found)
    if json:
        document(_summary(files, images, known, found, bad))
    else:
        _tell(files, images, noun_of(preprocess.to_dict()), found, bad)
    if bad:
        raise typer.Exit(Exit.BAD_ITEMS)


def _summary(
    files: ExplainFiles,
    images: "RowDataset",
    known: "RowDataset",
    found: "Found",
    bad: "Mapping[int, Fault]",
) -> dict[str, Any]:
    """All of it, as plain values."""
    counts = dict(Counter(status for status, _ in bad.values()))
    summary: dict[str, Any] = {
        "detector": str(files.detector),
        "data": source_of(files.source, images) | {"unusable": counts},
        "known": source_of(files.known, known),
        "explained": len(found),
    }
    if files.out is not None:
        summary["file"] = str(files.out)
    return summary | {
        "unreadable": [
            {"id": images.id(row), "status": status, "error": reason}
            for row, (status, reason) in bad.items()
        ],
        "items": [{"id": name, **why.to_dict()} for name, why in found],
    }


def _tell(
    files: ExplainFiles,
    images: "RowDataset",
    noun: str,
    found: "Found",
    bad: "Mapping[int, Fault]",
) -> None:
    """The reasons, unless they are in a file, and how many there are."""
    if files.out is None:
        data("\n\n".join(f"{name}: " + "\n".join(_lines(why)) for name, why in found))
    lines = {} if files.out is None else {"wrote": str(files.out)}
    if bad:
        named = [f"{images.id(row)} ({reason.rstrip('.')})" for row, (_, reason) in bad.items()]
        more = f"; and {len(bad) - _NAMED:,} more" if len(bad) > _NAMED else ""
        lines["not read"] = "; ".join(named[:_NAMED]) + more
    say(pairs(lines | {"explained": f"{len(found):,} of {len(images):,} {noun}"}))


def _unreadable(images: "RowDataset", loading: TolerantLoadingOptions) -> "dict[int, Fault]":
    """Rows that cannot be read, and why.

    Raises:
        DataError: they are more than --max-bad-fraction, where that is given.
    """
    from gradood.data._usable_rows import faults_in, shown_faults

    bad, most = faults_in(images, workers=loading.workers), loading.max_bad_fraction
    if most is not None and len(bad) > most * len(images):
        raise DataError(
            f"{len(bad)} of {len(images)} rows cannot be read, more than {most:g} of them: "
            f"{shown_faults(bad)}. Repair or remove them, or raise --max-bad-fraction."
        )
    return bad


def _opened(
    source: str, preprocess: "Preprocess | Any", loading: TolerantLoadingOptions
) -> "RowDataset":
    images = loading.open(source, preprocess, labeled=False)
    say_passed_over(images)
    return loading.usable(images)


def _explained(
    monitor: "Monitor[Any]",
    images: "RowDataset",
    loading: TolerantLoadingOptions,
    files: ExplainFiles,
) -> "Iterator[tuple[str, Explanation]]":
    """Ids and explanations, a batch at a time."""
    place = 0
    for batch in loading.loader(images):
        for why in monitor.explain([batch], reference=files.start):
            if files.every or why.is_ood:
                yield images.id(place), why
            place += 1


def _lines(why: "Explanation") -> list[str]:
    """Without the place in its batch."""
    first, *others = why.lines()
    return [first.partition(": ")[2], *others]


def _write(file: Path, found: "Found") -> None:
    import numpy as np

    from gradood.data._extras import arrow, parquet

    pa: Any = arrow()
    features = [
        None if why.features is None else why.features.float().numpy().astype(np.float32)
        for _, why in found
    ]
    table = pa.table(
        {
            "id": pa.array([name for name, _ in found], pa.string()),
            "why": pa.array([_lines(why) for _, why in found], pa.list_(pa.string())),
            "features": pa.array(features, pa.list_(pa.float32())),
        }
    )
    parquet().write_table(table, file, compression="zstd")
