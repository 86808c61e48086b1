"""Classifiers of torchvision, and the preprocessing of their weights."""

from collections.abc import Collection, Mapping
from typing import Any

from gradood.errors import ConfigError, suggest
from gradood.models.library import library
from gradood.models.opened import OpenedModel

__all__ = ["open_torchvision", "torchvision_inputs"]

# Their published weights expect inputs normalized as for Inception; with weights of torchvision's
# own fetching the library sets this itself.
_TRANSFORMED = ("googlenet", "inception_v3")


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
    found = {tag: _inputs(preset) for tag, preset in presets.items()}
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


def _inputs(preset: Any) -> dict[str, Any]:
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
