"""Options that several commands share, and how their text becomes values."""

from pathlib import Path
from typing import Annotated, Any

import typer

from gradood.cli.exits import Unavailable
from gradood.errors import ConfigError

__all__ = [
    "BatchSize",
    "Crop",
    "Device",
    "Force",
    "ImageColumn",
    "Interpolation",
    "Json",
    "LabelColumn",
    "Mean",
    "MethodOption",
    "Methods",
    "Mode",
    "Model",
    "NumClasses",
    "Pretrained",
    "Resize",
    "Std",
    "Weights",
    "Workers",
    "check_device",
    "overrides",
]

_MODEL, _INPUT, _RUN = "Model", "Preprocessing (default: as the model's configuration says)", "Run"

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document instead.")]
Model = Annotated[
    str,
    typer.Option(
        metavar="SPEC",
        help="package.module:factory, timm:NAME, torchvision:NAME, hf:FOLDER, or a reference "
        "network such as resnet20.",
        rich_help_panel=_MODEL,
    ),
]
Weights = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="Safetensors or state-dict file.",
        rich_help_panel=_MODEL,
    ),
]
NumClasses = Annotated[
    int | None,
    typer.Option(
        min=1,
        metavar="N",
        help="Passed to the factory as num_classes.",
        rich_help_panel=_MODEL,
    ),
]
Pretrained = Annotated[
    bool,
    typer.Option(
        "--pretrained",
        help="Let timm or torchvision fetch its own weights; nothing else is ever downloaded.",
        rich_help_panel=_MODEL,
    ),
]
Device = Annotated[
    str,
    typer.Option(
        metavar="NAME",
        help="Such as cpu, cuda or cuda:1; auto takes CUDA where there is one.",
        rich_help_panel=_MODEL,
    ),
]
Resize = Annotated[
    str | None,
    typer.Option(
        metavar="PIXELS|H,W",
        help="Length of the shorter side, or height and width; none leaves images as they are.",
        rich_help_panel=_INPUT,
    ),
]
Crop = Annotated[
    str | None,
    typer.Option(
        metavar="PIXELS|H,W",
        help="Side of the center kept, or height and width; or none.",
        rich_help_panel=_INPUT,
    ),
]
Mean = Annotated[
    str | None,
    typer.Option(
        metavar="A,B,C",
        help="Subtracted per channel after scaling to 0..1; or none.",
        rich_help_panel=_INPUT,
    ),
]
Std = Annotated[
    str | None,
    typer.Option(metavar="A,B,C", help="Divided by per channel; or none.", rich_help_panel=_INPUT),
]
Mode = Annotated[
    str | None,
    typer.Option(metavar="RGB|L", help="Color, or gray.", rich_help_panel=_INPUT),
]
Interpolation = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="Of the resize: bilinear, bicubic, nearest or lanczos.",
        rich_help_panel=_INPUT,
    ),
]
ImageColumn = Annotated[
    str,
    typer.Option(metavar="NAME", help="Images in Parquet files.", rich_help_panel=_INPUT),
]
LabelColumn = Annotated[
    str,
    typer.Option(metavar="NAME", help="Labels in Parquet files.", rich_help_panel=_INPUT),
]
Methods = Annotated[
    str,
    typer.Option(
        metavar="A,B|all",
        help="Methods; label=method adds a second one of a method.",
        rich_help_panel="Methods",
    ),
]
MethodOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME.key=value",
        help="An option of a method, such as line.clip=auto; may be given several times.",
        rich_help_panel="Methods",
    ),
]
BatchSize = Annotated[
    int, typer.Option(min=1, metavar="N", help="Images at once.", rich_help_panel=_RUN)
]
Workers = Annotated[
    int, typer.Option(min=0, metavar="N", help="Processes that decode.", rich_help_panel=_RUN)
]
Force = Annotated[
    bool,
    typer.Option("--force", help="Replace a file that is there already.", rich_help_panel=_RUN),
]


def overrides(
    *,
    resize: str | None,
    crop: str | None,
    mean: str | None,
    std: str | None,
    mode: str | None,
    interpolation: str | None = None,
) -> dict[str, Any]:
    """Options of `gradood.data.Preprocess` that were given, as values.

    Raises:
        ConfigError: a text is no number.
    """
    found: dict[str, Any] = {}
    for name, text in (("resize", resize), ("crop", crop)):
        if text is not None:
            found[name] = None if text.lower() == "none" else _sides(name, text)
    for name, text in (("mean", mean), ("std", std)):
        if text is not None:
            parts = text.split(",")
            numbers = tuple(_number(name, part, float) for part in parts if text.lower() != "none")
            found[name] = numbers or None
    for name, text in (("mode", mode), ("interpolation", interpolation)):
        if text is not None:
            found[name] = text
    return found


def check_device(name: str) -> str:
    """The device, tried out.

    Raises:
        ConfigError: there is no such kind of device.
        Unavailable: this machine has none.
    """
    import torch

    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ConfigError(f"--device {name!r}; expected such as cpu, cuda or cuda:1.") from error
    try:
        torch.zeros(1, device=device).cpu()
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        why = (str(error).splitlines() or [""])[0]
        raise Unavailable(f"no device {name!r} here: {why}; try --device cpu.") from error
    return name


def _sides(name: str, text: str) -> Any:
    """Pixels, or height and width."""
    numbers = [_number(name, part, int) for part in text.split(",")]
    return tuple(numbers) if len(numbers) > 1 else numbers[0]


def _number(name: str, text: str, kind: type[int] | type[float]) -> float:
    try:
        return kind(text)
    except ValueError:
        wanted = "pixels or none" if kind is int else "numbers such as 0.5,0.5,0.5, or none"
        raise ConfigError(f"--{name} has {text.strip()!r}; expected {wanted}.") from None
