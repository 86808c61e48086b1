"""Models of timm, and the preprocessing of their data configuration."""

import math
from collections.abc import Mapping
from typing import Any

from gradood.errors import ConfigError, suggest
from gradood.models.library import library
from gradood.models.opened import OpenedModel

__all__ = ["open_timm", "timm_inputs"]

_MODES = {1: "L", 3: "RGB"}


def open_timm(name: str, *, pretrained: bool, num_classes: int | None) -> OpenedModel:
    """A model of timm's own list.

    Args:
        name: such as ``resnet18`` or ``resnet18.a1_in1k``; the tag names the data configuration.
        pretrained: let timm fetch the weights of that tag.
        num_classes: of a new head.

    Raises:
        ConfigError: no such model or tag, or timm cannot make it so.
        ImportError: timm is not installed.
        OSError: the weights cannot be fetched.
    """
    timm = library("timm")
    if ":" in name or "/" in name:
        raise ConfigError(
            f"'timm:{name}' is not in timm's own list; expected a name such as timm:resnet18. A "
            "folder of Hugging Face's form is hf:FOLDER."
        )
    if not timm.is_model(name):
        raise ConfigError(f"timm has no model {name!r}; {suggest(name, timm.list_models())}")
    options = {} if num_classes is None else {"num_classes": num_classes}
    try:
        model = timm.create_model(name, pretrained=pretrained, **options)
    except OSError:
        raise
    except Exception as error:
        raise ConfigError(
            f"timm cannot make {name!r} with {options or 'no options'}: "
            f"{type(error).__name__}: {error}."
        ) from error
    own = getattr(model, "pretrained_cfg", {}).get("num_classes")
    if pretrained and num_classes not in (None, own):
        raise ConfigError(
            f"timm's weights of {name!r} are for {own} classes; with {num_classes} the head would "
            "be random. Leave --num-classes out, or give --weights."
        )
    config = timm.data.resolve_model_data_config(model)
    return OpenedModel(
        model=model,
        inputs=lambda given: timm_inputs(config),
        shape=tuple(config["input_size"]),
        trained=pretrained,
    )


def timm_inputs(config: Mapping[str, Any]) -> dict[str, Any]:
    """A data configuration as options of `gradood.data.Preprocess`.

    Args:
        config: as ``timm.data.resolve_model_data_config`` gives it, for evaluation.

    Raises:
        ConfigError: it asks for what `Preprocess` cannot do.
    """
    channels, height, width = config["input_size"]
    scaled = tuple(math.floor(side / config["crop_pct"]) for side in (height, width))
    mode, interpolation = config.get("crop_mode", "center"), config["interpolation"]
    if channels not in _MODES:
        raise _cannot(f"{channels} input channels", "1 or 3")
    if mode not in ("center", "squash"):
        raise _cannot(f"crop_mode {mode!r}", "'center' or 'squash'")
    if mode == "center" and scaled[0] != scaled[1]:
        raise _cannot(f"crop_mode 'center' of {height}×{width} pixels", "a square, or 'squash'")
    if interpolation not in ("bilinear", "bicubic", "nearest", "lanczos"):
        raise _cannot(f"interpolation {interpolation!r}", "bilinear, bicubic, nearest or lanczos")
    return {
        "mode": _MODES[channels],
        "resize": scaled if mode == "squash" else scaled[0],
        "crop": (height, width),
        "mean": tuple(config["mean"]),
        "std": tuple(config["std"]),
        "interpolation": interpolation,
    }


def _cannot(asked: str, expected: str) -> ConfigError:
    return ConfigError(f"timm's data configuration asks for {asked}; expected {expected}.")
