"""Settings of Hugging Face image processors as options of `gradood.data.Preprocess`."""

from collections.abc import Mapping, Sequence
from typing import Any

from gradood.errors import ConfigError

__all__ = ["processor_inputs"]

# They resize, crop, rescale and normalize, in this order, and nothing else.
_PLAIN = {
    *("Beit", "Bit", "CLIP", "ChineseCLIP", "DeiT"),
    *("MobileNetV1", "MobileNetV2", "Pvt", "Siglip", "ViT"),
}
_KNOWN = _PLAIN | {"ConvNext", "EfficientNet"}
_ENDS = ("FeatureExtractor", "ImageProcessor", "ImageProcessorFast", "ImageProcessorPil")
# `do_convert_rgb` is what mode "RGB" does; `do_reduce_labels` is about labels.
_STEPS = {
    *("do_resize", "do_center_crop", "do_rescale", "do_normalize"),
    *("do_convert_rgb", "do_reduce_labels"),
}
_RESAMPLING = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic"}


def processor_inputs(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of an image processor as options of `Preprocess`.

    What they give equals the processor on Pillow images (``backend="pil"``) up to rounding in
    float32, except that transparency is dropped, where newer processors blend it with white. The
    torchvision backend resizes tensors, and differs by a gray level or two here and there.

    Args:
        settings: a complete ``preprocessor_config.json``.

    Raises:
        ConfigError: they ask for what `Preprocess` cannot do.
    """
    kind = _kind(settings)
    for step in settings:
        if step.startswith("do_") and settings[step] and step not in _STEPS:
            raise _cannot(f"{step} {settings[step]!r}", "no such step")
    resize, crop = _resize_and_crop(settings, kind)
    mean, std = _normalization(settings, kind)
    found = {"resize": resize, "crop": crop, "mean": mean, "std": std, "crop_rounding": "down"}
    if resize is not None:
        resample = settings.get("resample")
        if resample not in _RESAMPLING:
            raise _cannot(f"resample {resample!r}", f"one of {sorted(_RESAMPLING)}")
        found["interpolation"] = _RESAMPLING[resample]
    return found


def _kind(settings: Mapping[str, Any]) -> str:
    name = settings.get("image_processor_type") or settings.get("feature_extractor_type") or ""
    kinds = [name.removesuffix(end) for end in _ENDS if name.endswith(end)]
    if not kinds or kinds[0] not in _KNOWN:
        raise _cannot(f"the processor {name!r}", f"one for {', '.join(sorted(_KNOWN))}")
    return kinds[0]


def _resize_and_crop(settings: Mapping[str, Any], kind: str) -> tuple[Any, Any]:
    resize = _sides(settings, "size") if settings.get("do_resize") else None
    crop = _sides(settings, "crop_size") if settings.get("do_center_crop") else None
    if kind == "ConvNext" and resize is not None:
        if crop is not None or not isinstance(resize, int):
            raise _cannot(f"size {resize} and crop_size {crop}", "a shortest_edge alone")
        # From 384 pixels on it squeezes the whole image into a square.
        if resize >= 384:
            return (resize, resize), None
        return int(resize / settings["crop_pct"]), resize
    return resize, crop


def _sides(settings: Mapping[str, Any], name: str) -> int | tuple[int, int]:
    given = settings.get(name)
    known = {k: v for k, v in given.items() if v is not None} if isinstance(given, Mapping) else {}
    if known.keys() == {"height", "width"}:
        return known["height"], known["width"]
    if known.keys() == {"shortest_edge"} and name == "size":
        return known["shortest_edge"]
    raise _cannot(f"{name} {given!r}", "height and width, or for the size a shortest_edge")


def _normalization(
    settings: Mapping[str, Any], kind: str
) -> tuple[tuple[float, ...] | None, tuple[float, ...] | None]:
    """Mean and std for pixels from 0 to 1, whatever range the processor normalizes.

    It computes ``(scale · x - offset - mean) / std`` with x from 0 to 1.
    """
    rescaled, normalized = settings.get("do_rescale"), settings.get("do_normalize")
    scale = 255 * settings.get("rescale_factor", 1 / 255) if rescaled else 255.0
    if abs(scale - 1) < 1e-9:
        scale = 1.0
    offset, again = 0.0, False
    if kind == "EfficientNet":
        offset = float(bool(rescaled and settings.get("rescale_offset")))
        again = bool(settings.get("include_top"))
    given_std = _channels(settings, "image_std") if normalized or again else (1.0,) * 3
    mean = _channels(settings, "image_mean") if normalized else (0.0,) * 3
    power = int(bool(normalized)) + int(again)
    mean = tuple((m + offset) / scale for m in mean)
    std = tuple(s**power / scale for s in given_std)
    return (mean if any(mean) else None), (None if set(std) == {1.0} else std)


def _channels(settings: Mapping[str, Any], name: str) -> tuple[float, ...]:
    given: Any = settings.get(name)
    values = tuple(given) if isinstance(given, Sequence) else (given,) * 3
    if len(values) != 3 or not all(isinstance(value, int | float) for value in values):
        raise _cannot(f"{name} {given!r}", "three numbers")
    return values


def _cannot(asked: str, expected: str) -> ConfigError:
    return ConfigError(f"the folder's image processor asks for {asked}; expected {expected}.")
