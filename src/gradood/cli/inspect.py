"""``gradood inspect``."""

from typing import TYPE_CHECKING, Annotated

import typer

from gradood.cli.options import (
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
from gradood.cli.output import data, document
from gradood.errors import ConfigError

if TYPE_CHECKING:
    from torch import Tensor

    from gradood.models.load import Subject

__all__ = ["inspect"]

_BATCH = 32


def inspect(
    model: Model,
    weights: Weights = None,
    num_classes: NumClasses = None,
    pretrained: Pretrained = False,
    device: Device = "cpu",
    images: Annotated[
        str | None,
        typer.Option("--input", metavar="PATH", help="Images to look at: a folder or Parquet."),
    ] = None,
    shape: Annotated[
        str | None,
        typer.Option(metavar="C,H,W", help="Look at noise of this shape, such as 3,32,32."),
    ] = None,
    resize: Resize = None,
    crop: Crop = None,
    mean: Mean = None,
    std: Std = None,
    mode: Mode = None,
    interpolation: Interpolation = None,
    image_column: ImageColumn = "image",
    json: Json = False,
) -> None:
    """Show what is found in a model: its layers, the verified head, what each method would use.

    Only a model of your own needs --input or --shape.
    """
    if images is not None and shape is not None:
        raise ConfigError("--input and --shape were both given; give one.")
    from gradood.models.load import load_subject
    from gradood.monitor.inspection import inspect as look

    subject = load_subject(
        model,
        weights,
        num_classes=num_classes,
        preprocess=overrides(
            resize=resize, crop=crop, mean=mean, std=std, mode=mode, interpolation=interpolation
        ),
        device=check_device(device),
        pretrained=pretrained,
        untrained=True,
    )
    given = _noise(subject, shape) if images is None else _images(subject, images, image_column)
    found = look(subject.model, given)
    if json:
        document({"subject": subject.to_dict(), **found.to_dict()})
    else:
        data(str(found))


def _noise(subject: "Subject", shape: str | None) -> "Tensor":
    import torch

    known = subject.opened.shape
    if shape is not None:
        try:
            sides = [int(side) for side in shape.split(",")]
        except ValueError:
            sides = []
        if not sides or min(sides) < 1:
            raise ConfigError(f"--shape {shape!r}; expected sizes such as 3,32,32.")
    elif known is not None:
        sides = known
    else:
        raise ConfigError(
            "this model's input is unknown; give --shape such as 3,32,32, or --input."
        )
    return torch.randn(_BATCH, *sides, generator=torch.Generator().manual_seed(0))


def _images(subject: "Subject", path: str, image_column: str) -> "Tensor":
    from gradood.bench import example_of
    from gradood.data import open_images

    return example_of(
        open_images(path, subject.preprocess, labeled=False, image_column=image_column)
    )
