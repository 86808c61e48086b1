"""``gradood score``."""

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gradood.cli._cluster import subject_of
from gradood.cli._exits import Exit
from gradood.cli._groups import argument
from gradood.cli._input_columns import InputColumnOptions
from gradood.cli._options import (
    BoundModelOptions,
    PreprocessOptions,
    device_name,
)
from gradood.cli._output import data, document, pairs, passed_over, say
from gradood.cli._score_graph import check_alone, check_options, scored_by_graph
from gradood.cli._score_options import JobOptions, ScoredModelOptions, ScoreFiles, cores
from gradood.errors import ConfigError

if TYPE_CHECKING:
    from gradood.batch import LoadedPredictor, Summary
    from gradood.data import ColumnInput, Preprocess, RowSource
    from gradood.models._load import LoadedModel

__all__ = ["score"]


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
    model: ScoredModelOptions,
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
    if files.onnx is not None:
        check_alone(files, model, columns, job)
        with _resumable(files):
            summary = scored_by_graph(files.onnx, source, changes, files.out, job)
        _print(summary, json=files.json)
        return
    detector = _detector(files, model)
    job.spread(model.device)  # Says what is wrong with it.
    from gradood.artifact import read
    from gradood.batch import load_predictor

    artifact = read(detector)  # Before the model is built, as that may take long.
    choice = columns.choice()
    stored = artifact.verified.manifest.preprocess
    of_images = not choice.given and "kind" not in (stored or {})
    listed = _listed(source, job) if of_images else None
    loaded = model.load(changes, choice)
    name = str(detector)
    predictor = load_predictor(artifact, loaded.model, override=model.override, source=name)
    preprocess = _preprocess(predictor.monitor.preprocess, loaded, changes)
    rows = listed or _listed(source, job, preprocess)
    with _resumable(files):
        summary = _scored(predictor, rows, preprocess, files, model, job)
    _print(summary, json=files.json)


def _detector(files: ScoreFiles, model: ScoredModelOptions) -> Path:
    """The detector's file; without a graph a model must be named, too."""
    if files.detector is None or not model.model:
        missing = "--detector" if files.detector is None else "--model"
        raise ConfigError(
            f"missing option {missing!r}: give --detector FILE and --model SPEC, or --onnx FILE"
        )
    return files.detector


@contextmanager
def _resumable(files: ScoreFiles) -> Iterator[None]:
    """Say after Ctrl-C that the job can go on."""
    try:
        yield
    except KeyboardInterrupt:
        say(f"finished shards are in {files.out}; run the same again to go on")
        raise


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
            settings=job.settings(cores()),
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
        say(
            "warning: the detector does not say how inputs were preprocessed, as nobody gave it "
            "preprocess=; taken is what the model says, and options such as --mode and --resize"
        )
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
    check_options(fitted, options)
    return fitted


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
    bad = {status: count for status, count in summary.statuses.items() if status != "ok"}
    reasons = _first_reasons(summary.out, bad)
    for status, count in bad.items():
        first = f"; the first is {reasons[status]}" if status in reasons else ""
        lines[f"status {status}"] = f"{count:,}{first}"
    if summary.passed_over:
        lines["passed over"] = passed_over(summary.passed_over)
    return pairs(lines)


def _first_reasons(out: str, statuses: Collection[str]) -> dict[str, str]:
    """Why rows have these statuses; nothing of results that are elsewhere than on this machine."""
    from gradood.batch.finished import first_reasons

    local = Path(out).is_dir()
    return first_reasons(Path(out), statuses) if statuses and local else {}


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
