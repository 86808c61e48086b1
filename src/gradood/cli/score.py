"""``gradood score``."""

import os
import re
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gradood.cli.exits import Exit
from gradood.cli.options import (
    BatchSize,
    Crop,
    Device,
    ImageColumn,
    Interpolation,
    Json,
    Mean,
    Mode,
    Model,
    NumClasses,
    Pretrained,
    Resize,
    Std,
    Weights,
    check_device,
    overrides,
)
from gradood.cli.output import data, document, say
from gradood.cli.saved import rows
from gradood.errors import ConfigError

if TYPE_CHECKING:
    from gradood.batch import Summary
    from gradood.data import Preprocess
    from gradood.models.load import Subject

__all__ = ["score"]

_RUN = "Run"


def score(
    source: Annotated[
        str,
        typer.Argument(
            metavar="INPUT",
            help="Path or URL of a folder of images, of Parquet, or of a list (.txt) of paths "
            "and URLs; a slice such as [:2000] may follow.",
        ),
    ],
    detector: Annotated[Path, typer.Option(metavar="FILE", help="A calibrated detector.")],
    model: Model,
    out: Annotated[
        Path,
        typer.Option(metavar="DIR", help="Folder for the results; the same one to go on."),
    ],
    weights: Weights = None,
    num_classes: NumClasses = None,
    pretrained: Pretrained = False,
    device: Device = "cpu",
    override: Annotated[
        str | None,
        typer.Option(
            metavar="REASON",
            help="Use the detector although the model is another; kept in every row.",
            rich_help_panel="Model",
        ),
    ] = None,
    resize: Resize = None,
    crop: Crop = None,
    mean: Mean = None,
    std: Std = None,
    mode: Mode = None,
    interpolation: Interpolation = None,
    image_column: ImageColumn = "image",
    batch_size: BatchSize = 64,
    workers: Annotated[
        int | None,
        typer.Option(
            min=0,
            metavar="N",
            help="Processes that decode; one per core, at most 8, if not given.",
            rich_help_panel=_RUN,
        ),
    ] = None,
    shard_rows: Annotated[
        int,
        typer.Option(
            min=1,
            metavar="N",
            help="Rows of a file of results: what a killed run repeats at most.",
            rich_help_panel=_RUN,
        ),
    ] = 2048,
    max_bad_fraction: Annotated[
        float,
        typer.Option(
            min=0,
            max=1,
            metavar="SHARE",
            help="Stop once more than this share of all rows could not be scored.",
            rich_help_panel=_RUN,
        ),
    ] = 0.05,
    max_pixels: Annotated[
        int,
        typer.Option(
            min=1, metavar="N", help="Larger images are not decoded.", rich_help_panel=_RUN
        ),
    ] = 50_000_000,
    json: Json = False,
) -> None:
    """Score images from a folder, a list or Parquet, into Parquet.

    Every image becomes a row, the unusable ones with a status and a reason; then the exit code is
    4. A run that was cut short goes on when it is started again.
    """
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]+:/", str(out)):  # Path makes one of two slashes.
        raise ConfigError(f"--out {str(out)!r}; expected a folder of this machine.")
    options = overrides(
        resize=resize, crop=crop, mean=mean, std=std, mode=mode, interpolation=interpolation
    )
    import torch

    import gradood
    from gradood.artifact import check
    from gradood.artifact.fingerprint import fingerprint
    from gradood.batch import Identity, Settings, list_images, score_images
    from gradood.models.load import load_subject

    verified = check(detector)  # Before the model is built, as that may take long.
    images = list_images(source, image_column=image_column)
    subject = load_subject(
        model,
        weights,
        num_classes=num_classes,
        preprocess=options,
        device=check_device(device),
        pretrained=pretrained,
    )
    monitor = gradood.load(detector, subject.model, override=override)
    preprocess = _preprocess(monitor.preprocess, subject, options)
    try:
        summary = score_images(
            monitor,
            images,
            out,
            preprocess=preprocess,
            identity=Identity(
                artifact=verified.sha256,
                model=fingerprint(subject.model).digest,
                preprocess=asdict(preprocess),
                device=torch.device(check_device(device)).type,
            ),
            settings=Settings(
                batch_size=batch_size,
                shard_rows=shard_rows,
                max_pixels=max_pixels,
                max_bad_fraction=max_bad_fraction,
                workers=_workers() if workers is None else workers,
            ),
        )
    except KeyboardInterrupt:
        say(f"finished shards are in {out}; run the same again to go on")
        raise
    _report(summary, json=json)


def _preprocess(
    stored: Mapping[str, Any] | None, subject: "Subject", options: Mapping[str, Any]
) -> "Preprocess":
    """As the detector was fitted; scores of inputs made otherwise would mean nothing."""
    from gradood.data import Preprocess

    if stored is None:
        say("warning: the detector does not say how images were preprocessed; as the model says")
        return subject.preprocess
    try:
        fitted = Preprocess(**stored)
    except TypeError as error:
        raise ConfigError(
            f"the detector was fitted with {dict(stored)!r}, which are no options of "
            "gradood.data.Preprocess; score such images from Python."
        ) from error
    for name, value in options.items():
        asked = getattr(replace(fitted, **{name: value}), name)
        if asked != getattr(fitted, name):
            raise ConfigError(
                f"--{name.replace('_', '-')} is {asked!r}, but the detector was fitted with "
                f"{getattr(fitted, name)!r}; leave it out, or fit again."
            )
    return fitted


def _workers() -> int:
    available = getattr(os, "sched_getaffinity", None)
    cores = len(available(0)) if available is not None else os.cpu_count() or 1
    return max(1, min(8, cores))


def _report(summary: "Summary", *, json: bool) -> None:
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
    shown = {
        "wrote": f"{summary.out} ({summary.shards:,} shards, {summary.resumed:,} of them before)",
        "rows": f"{summary.finished:,} of {summary.rows:,}",
        "scored": f"{scored:,}",
    }
    for name, count in summary.flagged.items():
        if name == "decision" and len(summary.flagged) == 2:
            continue  # That of the one detector.
        shown[f"out-of-distribution ({name})"] = f"{count:,} of the scored"
    for status, count in summary.statuses.items():
        if status != "ok":
            shown[f"status {status}"] = f"{count:,}"
    return rows(shown)
