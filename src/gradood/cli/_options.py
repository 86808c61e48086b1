"""Option groups that several commands share, each declared once, and the values of their texts."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from gradood.cli._exits import Unavailable
from gradood.cli._groups import flag, option
from gradood.cli._input_columns import InputColumnOptions
from gradood.errors import ConfigError

if TYPE_CHECKING:
    from torch.utils.data import DataLoader

    from gradood.bench import Selection
    from gradood.data import ColumnInput, Preprocess, RowDataset
    from gradood.models._columns import ColumnChoice
    from gradood.models._load import LoadedModel

__all__ = [
    "BatchSize",
    "BoundModelOptions",
    "ColumnOptions",
    "Device",
    "Force",
    "ImageColumn",
    "Json",
    "LoadingOptions",
    "METHODS",
    "MODEL",
    "MethodOptions",
    "ModelOptions",
    "ModelSpec",
    "NumClasses",
    "Override",
    "PREPROCESSING",
    "PreprocessOptions",
    "Pretrained",
    "RUN",
    "Workers",
    "device_name",
    "one_of",
]

MODEL, METHODS, RUN = "Model", "Methods", "Run"
PREPROCESSING = "Preprocessing (default: as the model's configuration says)"
"""Titles of the panels that the help is in."""

Json = Annotated[bool, flag("Print one JSON document instead.")]

ModelSpec = option(
    "SPEC",
    "package.module:factory (imports it, which runs its code), timm:NAME, torchvision:NAME, "
    "hf:FOLDER, or a reference network such as resnet20.",
    panel=MODEL,
)
NumClasses = Annotated[
    int | None,
    option("N", "Passed to the factory as num_classes.", least=1, panel=MODEL),
]
Pretrained = Annotated[
    bool,
    flag(
        "Let timm or torchvision fetch its own weights; nothing else is ever downloaded.",
        panel=MODEL,
    ),
]
Override = Annotated[
    str | None,
    option(
        "REASON",
        "Use the detector although the model is another; kept in what is written.",
        panel=MODEL,
    ),
]
Device = Annotated[
    str,
    option("NAME", "Such as cpu, cuda or cuda:1; auto takes CUDA where there is one.", panel=MODEL),
]
ImageColumn = Annotated[
    str,
    option("NAME", "Images in Parquet files.", panel=PREPROCESSING),
]
BatchSize = Annotated[int, option("N", "Images at once.", least=1, panel=RUN)]
Workers = Annotated[int, option("N", "Processes that decode.", least=0, panel=RUN)]
Force = Annotated[
    bool,
    flag("Replace a file that is there already.", panel=RUN),
]


@dataclass(frozen=True, kw_only=True)
class ModelOptions:
    """A trained classifier."""

    PANEL: ClassVar[str] = MODEL

    model: Annotated[str, ModelSpec]
    weights: Annotated[
        Path | None,
        option("FILE", "Safetensors or state-dict file."),
    ] = None
    num_classes: NumClasses = None
    pretrained: Pretrained = False
    device: Device = "cpu"

    def load(
        self,
        preprocess: Mapping[str, Any] | None = None,
        columns: "ColumnChoice | None" = None,
        *,
        untrained: bool = False,
    ) -> "LoadedModel":
        """The model on its device, with its weights.

        Args:
            preprocess: options of `gradood.data.Preprocess` that differ from the model's own.
            columns: which columns of a table are the input, if it is no image.
            untrained: allow a model without weights.
        """
        from gradood.models._load import load_model

        return load_model(
            self.model,
            self.weights,
            num_classes=self.num_classes,
            preprocess=preprocess,
            columns=columns,
            device=device_name(self.device),
            pretrained=self.pretrained,
            untrained=untrained,
        )


@dataclass(frozen=True, kw_only=True)
class BoundModelOptions(ModelOptions):
    """The classifier that a saved detector was fitted on."""

    override: Override = None


@dataclass(frozen=True, kw_only=True)
class PreprocessOptions:
    """From an image to the model's input, where it differs from what the model says."""

    PANEL: ClassVar[str] = PREPROCESSING

    resize: Annotated[
        str | None,
        option(
            "PIXELS|H,W",
            "Length of the shorter side, or height and width; none leaves images as they are.",
        ),
    ] = None
    crop: Annotated[
        str | None,
        option("PIXELS|H,W", "Side of the center kept, or height and width; or none."),
    ] = None
    mean: Annotated[
        str | None,
        option("A,B,C", "Subtracted per channel after scaling to 0..1; or none."),
    ] = None
    std: Annotated[
        str | None,
        option("A,B,C", "Divided by per channel; or none."),
    ] = None
    mode: Annotated[
        str | None,
        option("RGB|L", "Color, or gray."),
    ] = None
    interpolation: Annotated[
        str | None,
        option("NAME", "Of the resize: bilinear, bicubic, nearest or lanczos."),
    ] = None

    def values(self) -> dict[str, Any]:
        """Options of `gradood.data.Preprocess` that were given.

        Raises:
            ConfigError: a text is no number.
        """
        values: dict[str, Any] = {}
        for name, text in (("resize", self.resize), ("crop", self.crop)):
            if text is not None:
                values[name] = None if text.lower() == "none" else _sides(name, text)
        for name, text in (("mean", self.mean), ("std", self.std)):
            if text is not None:
                parts = [] if text.lower() == "none" else text.split(",")
                values[name] = tuple(_number(name, part, float) for part in parts) or None
        for name, text in (("mode", self.mode), ("interpolation", self.interpolation)):
            if text is not None:
                values[name] = text
        return values


@dataclass(frozen=True, kw_only=True)
class ColumnOptions(InputColumnOptions):
    """Columns of tables."""

    image_column: ImageColumn = "image"
    label_column: Annotated[
        str,
        option("NAME[:SEP]", "Labels in tables; with --link sigmoid a list, or names with SEP."),
    ] = "label"

    def open(
        self, path: str, preprocess: "Preprocess | ColumnInput", *, labeled: bool | None = None
    ) -> "RowDataset":
        """The images of a folder, a list or Parquet, or rows, as the model takes them."""
        from gradood.data.sources import open_inputs

        return open_inputs(
            path,
            preprocess,
            labeled=labeled,
            image_column=self.image_column,
            label_column=self.label_column,
        )


@dataclass(frozen=True, kw_only=True)
class MethodOptions:
    """The detectors."""

    PANEL: ClassVar[str] = METHODS

    methods: Annotated[
        str | None,
        option("A,B|all", "Methods; label=method adds a second one of a method."),
    ] = "all"
    assignments: Annotated[
        list[str],
        option(
            "NAME.key=value",
            "An option of a method, such as line.clip=auto; may be given several times.",
            "--option",
        ),
    ] = field(default_factory=list)

    def select(self) -> "Selection":
        """The detectors, and which of them were named."""
        from gradood.bench import select

        return select(self.methods or "all", self.assignments)


@dataclass(frozen=True, kw_only=True)
class LoadingOptions(ColumnOptions):
    """How files become batches of images."""

    batch_size: BatchSize = 128
    workers: Workers = 0

    def loader(self, images: "RowDataset") -> "DataLoader[Any]":
        """Batches of a data set."""
        from gradood.data import loader

        return loader(images, batch_size=self.batch_size, workers=self.workers)


def device_name(name: str) -> str:
    """The device, tried out; ``auto`` is CUDA where there is one.

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


def one_of(option: str, value: str, choices: tuple[str, ...]) -> Any:
    """The value of an option that takes a few words.

    Raises:
        ConfigError: it is none of them.
    """
    if value not in choices:
        raise ConfigError(f"{option} {value!r}; expected {' or '.join(choices)}.")
    return value


def _sides(name: str, text: str) -> Any:
    """Pixels, or height and width."""
    numbers = [_number(name, part, int) for part in text.split(",")]
    return tuple(numbers) if len(numbers) > 1 else numbers[0]


def _number(name: str, text: str, kind: type[int] | type[float]) -> float:
    try:
        return kind(text)
    except ValueError:
        expected = "pixels or none" if kind is int else "numbers such as 0.5,0.5,0.5, or none"
        raise ConfigError(f"--{name} has {text.strip()!r}; expected {expected}.") from None
