"""``gradood score``."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import typer

from gradood.cli._cluster import ClusterOptions, subject_of
from gradood.cli._exits import Exit
from gradood.cli._groups import argument, option
from gradood.cli._input_columns import InputColumnOptions
from gradood.cli._options import (
    RUN,
    BatchSize,
    BoundModelOptions,
    ImageColumn,
    Json,
    PreprocessOptions,
    device_name,
)
from gradood.cli._output import data, document, pairs, passed_over, say
from gradood.errors import ConfigError

if TYPE_CHECKING:
    from gradood.batch import LoadedPredictor, Settings, Summary
    from gradood.data import ColumnInput, Preprocess, RowSource
    from gradood.models._load import LoadedModel

__all__ = ["score"]


@dataclass(frozen=True, kw_only=True)
class ScoreFiles:
    """What a scoring job reads and writes, beside the images."""

    detector: Annotated[Path, option("FILE", "A calibrated detector.")]
    out: Annotated[
        str,
        option(
            "DIR",
            "Folder for the results, or URL of one, such as s3://bucket/scores; with the same one "
            "again, what is new or changed is scored.",
        ),
    ]
    json: Json = False


@dataclass(frozen=True, kw_only=True)
class JobOptions(ClusterOptions):
    """How a scoring job runs."""

    PANEL: ClassVar[str] = RUN

    image_column: ImageColumn = "image"
    batch_size: BatchSize = 64
    workers: Annotated[
        int | None,
        option("N", "Processes that decode; one per core, at most 8, if not given.", least=0),
    ] = None
    shard_rows: Annotated[
        int,
        option("N", "Rows of a file of results: what a killed run repeats at most.", least=1),
    ] = 2048
    max_bad_fraction: Annotated[
        float,
        option(
            "SHARE",
            "Stop once more than this share of all rows could not be scored; looked at after each "
            "file of results (--shard-rows).",
            least=0,
            most=1,
        ),
    ] = 0.05
    max_pixels: Annotated[
        int,
        option("N", "Larger images are not decoded.", least=1),
    ] = 50_000_000
    decode_timeout: Annotated[
        float,
        option(
            "SECONDS",
            "Longest that reading and decoding one image may take, where processes decode.",
            least=0,
        ),
    ] = 120.0

    def settings(self, workers: int) -> "Settings":
        """The same for the library.

        Args:
            workers: if their number was not given.
        """
        from gradood.batch import Settings

        return Settings(
            batch_size=self.batch_size,
            shard_rows=self.shard_rows,
            max_pixels=self.max_pixels,
            max_bad_fraction=self.max_bad_fraction,
            workers=workers if self.workers is None else self.workers,
            decode_timeout=self.decode_timeout,
        )


def score(
    source: Annotated[
        str,
        argument(
            "INPUT",
            "Path or URL of a folder of images, of Parquet, of tar or zip archives, or of a list "
            "(.txt) of paths and URLs; or of a table (Parquet, .csv, .jsonl) for a detector of its "
            "rows. A slice such as [:2000] may follow.",
        ),
    ],
    files: ScoreFiles,
    model: BoundModelOptions,
    preprocessing: PreprocessOptions,
    columns: InputColumnOptions,
    job: JobOptions,
) -> None:
    """Score images from a folder, a list, Parquet or archives, or rows of tables, into Parquet.

    Every input becomes a row, the unusable ones with a status and a reason; then the exit code is
    4. Started again, a run that was cut short goes on, and images that are new or changed since are
    scored. Bad images of earlier runs count: the exit code is 4 as long as one of them is there,
    also where nothing is new.
    """
    changes = preprocessing.values()
    job.spread(model.device)  # Says what is wrong with it.
    from gradood.artifact import read
    from gradood.batch import load_predictor

    artifact = read(files.detector)  # Before the model is built, as that may take long.
    choice = columns.choice()
    stored = artifact.verified.manifest.preprocess
    of_images = not choice.given and "kind" not in (stored or {})
    listed = _listed(source, job) if of_images else None
    loaded = model.load(changes, choice)
    name = str(files.detector)
    predictor = load_predictor(artifact, loaded.model, override=model.override, source=name)
    preprocess = _preprocess(predictor.monitor.preprocess, loaded, changes)
    rows = listed or _listed(source, job, preprocess)
    try:
        summary = _scored(predictor, rows, preprocess, files, model, job)
    except KeyboardInterrupt:
        say(f"finished shards are in {files.out}; run the same again to go on")
        raise
    _print(summary, json=files.json)


def _scored(
    predictor: "LoadedPredictor",
    rows: "RowSource",
    preprocess: "Preprocess | ColumnInput",
    files: ScoreFiles,
    model: BoundModelOptions,
    job: JobOptions,
) -> "Summary":
    """The job, in this process or on a cluster."""
    from gradood.batch import score_images

    spread = job.spread(model.device)
    device = getattr(spread, "kind", None) or device_name(model.device)
    identity = predictor.identity(preprocess.to_dict(), device)
    if spread is None:
        return score_images(
            predictor.monitor,
            rows,
            files.out,
            preprocess=preprocess,
            identity=identity,
            settings=job.settings(_cores()),
        )
    from gradood.scale._scoring import ScoreWork, scored_on

    subject = subject_of(model, str(files.detector))
    work = ScoreWork.of(subject, predictor, preprocess, job.settings(1))
    return scored_on(spread, work, predictor.monitor, rows, files.out, identity)


def _listed(
    source: str, job: JobOptions, preprocess: "Preprocess | ColumnInput | None" = None
) -> "RowSource":
    """The images, or the rows that inputs of columns are made of."""
    from gradood.batch import list_columns, list_images
    from gradood.data import ColumnInput

    if isinstance(preprocess, ColumnInput):
        return list_columns(source, preprocess)
    return list_images(source, image_column=job.image_column)


def _preprocess(
    stored: Mapping[str, Any] | None, loaded: "LoadedModel", options: Mapping[str, Any]
) -> "Preprocess | ColumnInput":
    """As the detector was fitted; scores of inputs made otherwise would mean nothing."""
    from gradood.data import Preprocess

    if stored is None:
        say("warning: the detector does not say how inputs were preprocessed; as the model says")
        return loaded.preprocess
    try:
        fitted = loaded.preprocess_like(stored)
    except TypeError as error:
        raise ConfigError(
            f"the detector was fitted with {dict(stored)!r}, which are no options of "
            "gradood.data.Preprocess; score such images from Python."
        ) from error
    if not isinstance(fitted, Preprocess):
        if options:
            raise ConfigError(
                f"--{next(iter(options))} is of images, and the detector was fitted on "
                f"{fitted.kind}; leave it out."
            )
        return fitted
    for name, value in options.items():
        asked = getattr(replace(fitted, **{name: value}), name)
        if asked != getattr(fitted, name):
            raise ConfigError(
                f"--{name.replace('_', '-')} is {asked!r}, but the detector was fitted with "
                f"{getattr(fitted, name)!r}; leave it out, or fit again."
            )
    return fitted


def _cores() -> int:
    available = getattr(os, "sched_getaffinity", None)
    cores = len(available(0)) if available is not None else os.cpu_count() or 1
    return max(1, min(8, cores))


def _print(summary: "Summary", *, json: bool) -> None:
    if json:
        document(summary.to_dict())
    else:
        data(_lines(summary))
    if summary.stopped is not None:
        say(f"error: stopped: {summary.stopped}; --max-bad-fraction sets the limit.")
    if summary.unscored:
        raise typer.Exit(Exit.BAD_ITEMS)


def _lines(summary: "Summary") -> str:
    scored = summary.finished - summary.unscored
    lines = {
        "wrote": f"{summary.out} ({summary.shards:,} shards, {summary.resumed:,} of them before)",
        "rows": f"{summary.finished:,} of {summary.rows:,}",
        **_update_line(summary),
        "scored": f"{scored:,}",
    }
    for name, count in summary.flagged.items():
        if name == "decision" and len(summary.flagged) == 2:
            continue  # That of the one detector.
        lines[f"out-of-distribution ({name})"] = f"{count:,} of the scored"
    for status, count in summary.statuses.items():
        if status != "ok":
            lines[f"status {status}"] = f"{count:,}"
    if summary.passed_over:
        lines["passed over"] = passed_over(summary.passed_over)
    return pairs(lines)


def _update_line(summary: "Summary") -> dict[str, str]:
    """What was done, where some of it had been done before."""
    parts = {
        "new": summary.new,
        "changed": summary.changed,
        "kept": summary.kept,
        "gone": summary.gone,
    }
    if not (summary.changed or summary.kept or summary.gone):
        return {}
    told = ", ".join(f"{count:,} {name}" for name, count in parts.items())
    moved = "; rows of changed and gone images are in _removed"
    return {"images": told + (moved if summary.changed or summary.gone else "")}
