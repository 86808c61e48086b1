"""``gradood fit``."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from gradood.cli.options import (
    BatchSize,
    Crop,
    Device,
    Force,
    ImageColumn,
    Interpolation,
    Json,
    LabelColumn,
    Mean,
    MethodOption,
    Methods,
    Mode,
    Model,
    NumClasses,
    Pretrained,
    Resize,
    Std,
    Weights,
    Workers,
    check_device,
    overrides,
)
from gradood.cli.output import data, document, say
from gradood.cli.saved import check_target, rows, saved

if TYPE_CHECKING:
    from torch import Tensor

    from gradood.bench import Selection, Survey
    from gradood.calibration.curve import How
    from gradood.data import ImageDataset
    from gradood.models.load import Subject

__all__ = ["fit"]


def fit(
    model: Model,
    source: Annotated[
        str,
        typer.Option(
            "--data",
            metavar="PATH",
            help="In-distribution training images: a folder or Parquet, with a slice such as "
            "[:2000].",
        ),
    ],
    out: Annotated[
        Path, typer.Option(metavar="FILE", help="Where the detector goes: one safetensors file.")
    ],
    weights: Weights = None,
    num_classes: NumClasses = None,
    pretrained: Pretrained = False,
    device: Device = "cpu",
    methods: Methods = "all",
    option: MethodOption = None,
    combine: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Make one decision of several methods: fisher, stouffer, cauchy or min.",
            rich_help_panel="Methods",
        ),
    ] = None,
    resize: Resize = None,
    crop: Crop = None,
    mean: Mean = None,
    std: Std = None,
    mode: Mode = None,
    interpolation: Interpolation = None,
    image_column: ImageColumn = "image",
    label_column: LabelColumn = "label",
    batch_size: BatchSize = 128,
    workers: Workers = 0,
    force: Force = False,
    json: Json = False,
) -> None:
    """Fit detectors on a model's own training data, in one pass, and save them in one file.

    The file needs calibration before it decides: gradood calibrate.
    """
    check_target(out, force=force)
    changed = overrides(
        resize=resize, crop=crop, mean=mean, std=std, mode=mode, interpolation=interpolation
    )
    from gradood.bench import example_of, select
    from gradood.data import loader, open_images
    from gradood.models.load import load_subject
    from gradood.monitor import Monitor

    selection = select(methods, option or ())
    subject = load_subject(
        model,
        weights,
        num_classes=num_classes,
        preprocess=changed,
        device=check_device(device),
        pretrained=pretrained,
    )
    preprocess = subject.preprocess
    images = open_images(source, preprocess, image_column=image_column, label_column=label_column)
    example = example_of(images)
    found = _survey(subject, images, selection, example)
    for name, reason in found.left_out.items():
        say(f"left out {name}: {reason}")
    monitor = Monitor(
        subject.model,
        {name: selection.detectors[name] for name in found.plans},
        combine=cast("How | None", combine),
        preprocess=asdict(preprocess),
    )
    monitor.bind(example)  # Also a monitor that learns nothing must know its model to be saved.
    monitor.fit(loader(images, batch_size=batch_size, workers=workers))
    monitor.save(out)
    result = {
        **saved(out),
        "left_out": dict(found.left_out),
        "fit": {
            "path": source,
            "n": len(images) if monitor.states else 0,
            "labels": images.labeled,
        },
        "subject": subject.to_dict(),
    }
    if json:
        document(result)
    else:
        data(_lines(result))


def _survey(
    subject: "Subject", images: "ImageDataset", selection: "Selection", example: "Tensor"
) -> "Survey":
    """Which methods can run, found before the pass over the data."""
    from gradood.bench import check_classes, survey
    from gradood.engine.binding import observed
    from gradood.taps import device_of

    network = observed(subject.model, example.to(device_of(subject.model)))
    check_classes("fit", images.labels, network.classes)
    return survey(
        network,
        selection.detectors,
        example,
        fit=True,
        labels=images.labeled,
        required=selection.required,
    )


def _lines(result: Mapping[str, Any]) -> str:
    subject, learned = result["subject"], result["fit"]
    labels = "with labels" if learned["labels"] else "without labels"
    fitted = f"{learned['n']:,} images of {learned['path']}, {labels}"
    shown = {
        "wrote": f"{result['file']} ({result['bytes']:,} bytes)",
        "sha256": result["sha256"],
        "model": f"{subject['model']} ({subject['class']}, {subject['parameters']:,} parameters)",
        "fitted on": fitted if learned["n"] else "nothing, as these methods do not learn",
        "detectors": ", ".join(result["detectors"]),
        "combined": result["combine"] or "no",
        "calibrated": "no: it scores but does not decide until gradood calibrate",
    }
    return rows(shown)
