"""``gradood calibrate``."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, cast

import typer

from gradood.cli.options import (
    BatchSize,
    Device,
    Force,
    ImageColumn,
    Json,
    LabelColumn,
    Model,
    NumClasses,
    Pretrained,
    Weights,
    Workers,
    check_device,
)
from gradood.cli.output import data, document
from gradood.cli.saved import check_target, rows, saved

__all__ = ["calibrate"]

_PROMISE = "Promise"


def calibrate(
    detector: Annotated[Path, typer.Option(metavar="FILE", help="A fitted detector.")],
    model: Model,
    source: Annotated[
        str,
        typer.Option(
            "--data",
            metavar="PATH",
            help="In-distribution images that the detector was not fitted on: a folder or "
            "Parquet, with a slice such as [:2000].",
        ),
    ],
    out: Annotated[
        Path, typer.Option(metavar="FILE", help="Where the result goes; may be the same file.")
    ],
    fpr: Annotated[
        float,
        typer.Option(
            metavar="SHARE",
            help="Share of in-distribution inputs that may be flagged.",
            rich_help_panel=_PROMISE,
        ),
    ] = 0.05,
    mode: Annotated[
        str,
        typer.Option(
            metavar="marginal|pac",
            help="marginal: on average over calibrations; pac: for this one, with --confidence.",
            rich_help_panel=_PROMISE,
        ),
    ] = "marginal",
    confidence: Annotated[
        float, typer.Option(metavar="SHARE", help="Of mode pac.", rich_help_panel=_PROMISE)
    ] = 0.95,
    per_class: Annotated[
        bool,
        typer.Option(
            "--per-class", help="Keep it for each predicted class.", rich_help_panel=_PROMISE
        ),
    ] = False,
    allow_overlap: Annotated[
        str | None,
        typer.Option(
            metavar="REASON",
            help="Calibrate although some data was fitted on; kept in the file.",
            rich_help_panel=_PROMISE,
        ),
    ] = None,
    override: Annotated[
        str | None,
        typer.Option(
            metavar="REASON",
            help="Use the detector although the model is another; kept in the file.",
            rich_help_panel="Model",
        ),
    ] = None,
    weights: Weights = None,
    num_classes: NumClasses = None,
    pretrained: Pretrained = False,
    device: Device = "cpu",
    image_column: ImageColumn = "image",
    label_column: LabelColumn = "label",
    batch_size: BatchSize = 128,
    workers: Workers = 0,
    force: Force = False,
    json: Json = False,
) -> None:
    """Set a saved detector's thresholds so that its false-alarm rate keeps a promise.

    Images are preprocessed as they were in the fit.
    """
    check_target(out, force=force, source=detector)
    import gradood
    from gradood.artifact import check
    from gradood.calibration import Promise
    from gradood.data import Preprocess, loader, open_images
    from gradood.models.load import load_subject

    promise = Promise(fpr, cast(Any, mode), confidence)
    check(detector)  # Before the model is built, as that may take long.
    subject = load_subject(
        model,
        weights,
        num_classes=num_classes,
        device=check_device(device),
        pretrained=pretrained,
    )
    monitor = gradood.load(detector, subject.model, override=override)
    settings = monitor.preprocess
    images = open_images(
        source,
        subject.preprocess if settings is None else Preprocess(**settings),
        labeled=False,
        image_column=image_column,
        label_column=label_column,
    )
    monitor.calibrate(
        loader(images, batch_size=batch_size, workers=workers),
        fpr=fpr,
        mode=promise.mode,
        confidence=confidence,
        per_class=per_class,
        allow_overlap=allow_overlap,
    )
    monitor.save(out)
    result = {**saved(out), "data": {"path": source, "n": len(images)}}
    if json:
        document(result)
    else:
        data(_lines(result, f"{promise}{', for each predicted class' if per_class else ''}"))


def _lines(result: Mapping[str, Any], promise: str) -> str:
    shown = {
        "wrote": f"{result['file']} ({result['bytes']:,} bytes)",
        "sha256": result["sha256"],
        "detectors": ", ".join(result["detectors"]),
        "combined": result["combine"] or "no",
        "promise": promise,
        "calibrated": f"on {result['data']['n']:,} images of {result['data']['path']}",
    }
    if result["overrides"]:
        shown["overridden"] = "; ".join(result["overrides"])
    return rows(shown)
