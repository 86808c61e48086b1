"""Classifiers of timm and torchvision, and the preprocessing of their configurations."""

import importlib
import importlib.util
import math
import re
import sys
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from gradood.errors import ConfigError, suggest
from gradood.models.opened import OpenedModel

__all__ = ["library", "open_timm", "open_torchvision", "timm_inputs", "torchvision_inputs"]

_MODES = {1: "L", 3: "RGB"}
# Their published weights expect inputs normalized as for Inception; with weights of torchvision's
# own fetching the library sets this itself.
_TRANSFORMED = ("googlenet", "inception_v3")


def library(name: str) -> Any:
    """A library of models, such as ``timm``.

    Args:
        name: of the package; its extra is called the same, that of Transformers ``hf``.

    Raises:
        ImportError: it is not installed, or does not fit the torch that is.
    """
    extra = "hf" if name == "transformers" else name
    try:
        return importlib.import_module(name)
    except Exception as error:  # A torchvision built for another torch raises RuntimeError.
        if isinstance(error, ModuleNotFoundError) and error.name == name:
            raise ModuleNotFoundError(
                f"{name}, which makes the model, is not installed: pip install 'gradood[{extra}]'.",
                name=name,
            ) from error
        first = (str(error).strip().splitlines() or [""])[0]
        raise ImportError(
            f"{name} is installed but cannot be imported: {type(error).__name__}: {first}. "
            "timm and torchvision need a torchvision of the same build as torch; install them "
            f"together: pip install torch 'gradood[{extra}]'."
        ) from error


def _refuse_unlisted(package: str, name: str) -> None:
    """Raise for a name that the library's source does not hold, without importing it.

    Importing takes up to half a minute, which is long to be told of a typing error. What was
    registered by a user's own code counts, as then the library is imported already.

    Args:
        package: timm or torchvision.
        name: of a model, with or without a tag.

    Raises:
        ConfigError: no such model.
    """
    architecture = name.partition(".")[0]
    found = None if package in sys.modules else importlib.util.find_spec(package)
    folders = () if found is None else found.submodule_search_locations or ()
    sources = [file for folder in folders for file in Path(folder, "models").rglob("*.py")]
    if not sources or not architecture.isidentifier():
        return
    text = "\n".join(file.read_text(encoding="utf-8", errors="replace") for file in sources)
    if re.search(rf"\b{architecture}\b", text) is None:
        listed = re.findall(r"^@register_model\b[^\n]*\n(?:@[^\n]*\n)*def (\w+)\(", text, re.M)
        raise ConfigError(
            f"{package} has no model {architecture!r}; {suggest(architecture, listed)}"
        )


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
    _refuse_unlisted("timm", name)
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
        raise _timm_cannot(f"{channels} input channels", "1 or 3")
    if mode not in ("center", "squash"):
        raise _timm_cannot(f"crop_mode {mode!r}", "'center' or 'squash'")
    if mode == "center" and scaled[0] != scaled[1]:
        raise _timm_cannot(
            f"crop_mode 'center' of {height}×{width} pixels", "a square, or 'squash'"
        )
    if interpolation not in ("bilinear", "bicubic", "nearest", "lanczos"):
        raise _timm_cannot(
            f"interpolation {interpolation!r}", "bilinear, bicubic, nearest or lanczos"
        )
    return {
        "mode": _MODES[channels],
        "resize": scaled if mode == "squash" else scaled[0],
        "crop": (height, width),
        "mean": tuple(config["mean"]),
        "std": tuple(config["std"]),
        "interpolation": interpolation,
    }


def _timm_cannot(asked: str, expected: str) -> ConfigError:
    return ConfigError(f"timm's data configuration asks for {asked}; expected {expected}.")


def open_torchvision(name: str, *, pretrained: bool, num_classes: int | None) -> OpenedModel:
    """A classifier of torchvision.

    Args:
        name: such as ``resnet50``; ``resnet50.IMAGENET1K_V1`` names the weights whose
            preprocessing it takes, and which are fetched if `pretrained`.
        pretrained: let torchvision fetch weights: those named, or its default ones.
        num_classes: of the head.

    Raises:
        ConfigError: no such model or weights, or torchvision cannot make it so.
        ImportError: torchvision is not installed, or not for this torch.
        OSError: the weights cannot be fetched.
    """
    _refuse_unlisted("torchvision", name)
    models = library("torchvision").models
    architecture, _, tag = name.partition(".")
    known = models.list_models(module=models)
    if architecture not in known:
        raise ConfigError(
            f"torchvision has no classifier {architecture!r}; {suggest(architecture, known)}"
        )
    weights = models.get_model_weights(architecture)
    if tag and tag not in weights.__members__:
        raise ConfigError(
            f"torchvision's {architecture} has no weights {tag!r}; "
            f"{suggest(tag, weights.__members__)}"
        )
    chosen = weights[tag] if tag else weights.DEFAULT if pretrained else None
    options: dict[str, Any] = {} if num_classes is None else {"num_classes": num_classes}
    if architecture in _TRANSFORMED:
        options["transform_input"] = True
    try:
        model = models.get_model(architecture, weights=chosen if pretrained else None, **options)
    except OSError:
        raise
    except Exception as error:
        raise ConfigError(
            f"torchvision cannot make {name!r} with {options or 'no options'}: "
            f"{type(error).__name__}: {error}."
        ) from error
    presets = {each.name: each.transforms() for each in ([chosen] if chosen else weights)}
    sides = {side for preset in presets.values() for side in getattr(preset, "crop_size", ())}
    return OpenedModel(
        model=model,
        inputs=lambda given: torchvision_inputs(architecture, presets, given),
        shape=(3, *(sides * 2)) if len(sides := sorted(sides)) == 1 else None,
        trained=pretrained,
    )


def torchvision_inputs(
    name: str, presets: Mapping[str, Any], given: Collection[str] = ()
) -> dict[str, Any]:
    """Presets as options of `gradood.data.Preprocess`.

    Args:
        name: of the model, for messages.
        presets: the transforms of the weights that come into question, by their names.
        given: options that do not matter, as they are settled already.

    Raises:
        ConfigError: they differ, or ask for what `Preprocess` cannot do.
    """
    found = {tag: _preset_inputs(preset) for tag, preset in presets.items()}
    first = next(iter(found.values()), {})
    open_ = [
        key
        for key in first
        if key not in given and any(options[key] != first[key] for options in found.values())
    ]
    if open_:
        shown = "; ".join(
            f"{name}.{tag} has {', '.join(f'{key} {options[key]}' for key in open_)}"
            for tag, options in found.items()
        )
        raise ConfigError(
            f"torchvision has several weights of {name} that were trained with different inputs: "
            f"{shown}. Name one, such as torchvision:{name}.{next(iter(found))}."
        )
    return {key: value for key, value in first.items() if key not in given}


def _preset_inputs(preset: Any) -> dict[str, Any]:
    if type(preset).__name__ != "ImageClassification":
        raise ConfigError(
            f"torchvision's transforms {type(preset).__name__} are not for images of one size; "
            "expected ImageClassification."
        )
    interpolation = preset.interpolation.value
    if interpolation not in ("bilinear", "bicubic", "nearest", "lanczos"):
        raise ConfigError(
            f"torchvision's transforms ask for interpolation {interpolation!r}; expected bilinear, "
            "bicubic, nearest or lanczos."
        )
    return {
        "resize": _sides(preset.resize_size),
        "crop": _sides(preset.crop_size),
        "mean": tuple(preset.mean),
        "std": tuple(preset.std),
        "interpolation": interpolation,
    }


def _sides(sizes: Any) -> int | tuple[int, int]:
    """torchvision's way: a list of one is the shorter side, of two is height and width."""
    one, *others = sizes
    return (one, *others) if others else one
