"""``gradood bench``."""

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gradood.cli.exits import Unavailable
from gradood.cli.options import (
    BatchSize,
    Crop,
    Device,
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
from gradood.cli.output import aligned, data, document, say
from gradood.errors import ConfigError

if TYPE_CHECKING:
    from gradood.bench import Record

__all__ = ["bench"]

_DATA = "Data (PATH: folder or Parquet, with a slice such as [:2000])"


def bench(
    context: typer.Context,
    model: Model,
    id_data: Annotated[
        str,
        typer.Option(
            "--id",
            metavar="PATH",
            help="In-distribution test images; with labels, the accuracy is checked.",
            rich_help_panel=_DATA,
        ),
    ],
    ood: Annotated[
        list[str],
        typer.Option(
            metavar="NAME=PATH",
            help="Out-of-distribution images; may be given several times.",
            rich_help_panel=_DATA,
        ),
    ],
    fit: Annotated[
        str | None,
        typer.Option(
            metavar="PATH",
            help="In-distribution training images, for the methods that learn.",
            rich_help_panel=_DATA,
        ),
    ] = None,
    weights: Weights = None,
    num_classes: NumClasses = None,
    pretrained: Pretrained = False,
    device: Device = "cpu",
    methods: Methods = "all",
    option: MethodOption = None,
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
    out: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FILE",
            help="Write the whole record to FILE.json or FILE.md; may be given several times.",
            rich_help_panel="Run",
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Compare methods on a model of your own: every method in one pass over each data set."""
    files = out or []
    _check_out(files)
    sets = _named(ood)
    changed = overrides(
        resize=resize, crop=crop, mean=mean, std=std, mode=mode, interpolation=interpolation
    )
    from gradood.bench import Settings, run

    settings = Settings(
        model=model,
        weights=weights,
        num_classes=num_classes,
        pretrained=pretrained,
        fit=fit,
        id=id_data,
        ood=sets,
        methods=methods,
        options=tuple(option or ()),
        preprocess=changed,
        image_column=image_column,
        label_column=label_column,
        batch_size=batch_size,
        workers=workers,
        device=check_device(device),
    )
    record = run(settings, command=shlex.join(["gradood", *context.obj]))
    _report(record, files, json=json)


def _report(record: "Record", files: Sequence[Path], *, json: bool) -> None:
    from gradood.bench import json_text
    from gradood.bench.record import CAPTION, left_out_lines

    for file in files:
        text = record.markdown() if file.suffix == ".md" else json_text(record.to_dict())
        try:
            file.write_text(text, encoding="utf-8")
        except OSError as error:
            data(json_text(record.to_dict()))  # Hours of work are not lost for want of a file.
            raise Unavailable(f"{str(file)!r} cannot be written: {error.strerror}.") from error
        say(f"wrote {file}")
    comparison = record.comparison
    if comparison.id_accuracy is not None:
        published = record.subject["published_accuracy"]
        told = f" (measured before with these weights: {published:.2%})" if published else ""
        say(f"accuracy on the ID data: {comparison.id_accuracy:.2%}{told}")
    if json:
        document(record.to_dict())
        return
    lines = [CAPTION, "", aligned(comparison.table.markdown())]
    data("\n".join([*lines, "", *left_out_lines(comparison)]).rstrip())


def _named(given: list[str]) -> dict[str, str]:
    """Name → path."""
    found: dict[str, str] = {}
    for text in given:
        name, equals, path = text.partition("=")
        if not (equals and name and path):
            raise ConfigError(f"--ood {text!r}; expected NAME=PATH, such as svhn=svhn.parquet.")
        if name in found:
            raise ConfigError(f"--ood {name!r} was given twice; give each set its own name.")
        found[name] = path
    return found


def _check_out(files: Sequence[Path]) -> None:
    """Before hours of work rather than after."""
    for file in files:
        if file.suffix not in (".json", ".md"):
            raise ConfigError(f"--out {str(file)!r}; expected a name ending in .json or .md.")
        if not file.parent.is_dir():
            raise ConfigError(f"--out {str(file)!r}: its folder does not exist; make it first.")
