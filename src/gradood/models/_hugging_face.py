"""Image classifiers in folders of Hugging Face's form, and their image processor's settings."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from gradood.errors import ConfigError, DataError
from gradood.models._libraries import library, timm_inputs
from gradood.models.opened import OpenedModel

__all__ = ["open_folder", "processor_inputs"]

_LOCAL = {"local_files_only": True, "trust_remote_code": False}
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


def open_folder(name: str, *, pretrained: bool, num_classes: int | None) -> OpenedModel:
    """An image classifier from a local folder; nothing is fetched, and no code of the folder runs.

    Args:
        name: the folder, with ``config.json``. Its weights must be safetensors; without any, the
            model has random ones.
        pretrained: refused, as a folder has its weights or not.
        num_classes: must be the folder's own if it has weights.

    Raises:
        DataError: there is no such folder.
        ConfigError: it is no image classifier that Transformers knows, or its weights are not
            complete.
        ImportError: Transformers is not installed.
    """
    folder = Path(name).expanduser()
    if not (folder / "config.json").is_file():
        raise DataError(
            f"no model at {str(folder)!r}: expected a folder with config.json, and "
            "model.safetensors if it is trained, as save_pretrained writes it."
        )
    if pretrained:
        raise ConfigError(
            f"a folder, 'hf:{name}', has its weights or not; leave out --pretrained, which is for "
            "timm and torchvision."
        )
    transformers = library("transformers")
    files = _weights(folder)
    with _silent(transformers):
        try:
            config = transformers.AutoConfig.from_pretrained(folder, **_LOCAL)
            model = _model(transformers, folder, config, files, num_classes)
        except (ConfigError, ImportError):
            raise
        except Exception as error:
            raise ConfigError(
                f"Transformers cannot read an image classifier from {str(folder)!r}: "
                f"{type(error).__name__}: {_first_line(error)}."
            ) from error
    return OpenedModel(
        model=model.float(),
        inputs=lambda given: _inputs(transformers, folder, config),
        shape=_shape(config),
        trained=bool(files),
        weights=files,
    )


def _model(
    transformers: Any, folder: Path, config: Any, files: tuple[Path, ...], classes: int | None
) -> Any:
    auto = transformers.AutoModelForImageClassification
    if not files:
        if classes is not None:
            config.num_labels = classes
        return auto.from_config(config, trust_remote_code=False)
    if classes not in (None, config.num_labels):
        raise ConfigError(
            f"the model in {str(folder)!r} has {config.num_labels} classes, and {classes} were "
            "asked for; leave --num-classes out."
        )
    model, found = auto.from_pretrained(
        folder, config=config, use_safetensors=True, output_loading_info=True, **_LOCAL
    )
    # What the file lacks, Transformers fills with random numbers.
    lacking = [*map(str, found["missing_keys"]), *map(str, found.get("mismatched_keys", ()))]
    if lacking:
        raise ConfigError(
            f"the weights in {str(folder)!r} lack {len(lacking)} tensors of "
            f"{type(model).__name__}, such as {sorted(lacking)[0]}; expected a trained image "
            "classifier, not its backbone alone. Fine-tune it, and save_pretrained."
        )
    return model


def _weights(folder: Path) -> tuple[Path, ...]:
    """The safetensors files; empty if there are no weights at all."""
    if (folder / "model.safetensors").is_file():
        return (folder / "model.safetensors",)
    if (folder / "model.safetensors.index.json").is_file():
        return tuple(sorted(folder.glob("model-*.safetensors")))
    return ()


def _inputs(transformers: Any, folder: Path, config: Any) -> Mapping[str, Any]:
    """What the folder says of the inputs."""
    own = getattr(config, "pretrained_cfg", None)
    if own:
        return timm_inputs(library("timm").data.resolve_data_config(pretrained_cfg=own))
    if not (folder / "preprocessor_config.json").is_file():
        return {}
    # The processor for Pillow images; its class fills in what the file lacks.
    newer = int(transformers.__version__.partition(".")[0]) >= 5
    kind = {"backend": "pil"} if newer else {"use_fast": False}
    try:
        with _silent(transformers):
            processor = transformers.AutoImageProcessor.from_pretrained(folder, **kind, **_LOCAL)
    except ImportError:
        raise
    except Exception as error:
        raise ConfigError(
            f"Transformers cannot read preprocessor_config.json in {str(folder)!r}: "
            f"{type(error).__name__}: {_first_line(error)}."
        ) from error
    return processor_inputs(processor.to_dict())


def _shape(config: Any) -> tuple[int, int, int] | None:
    """Of one input, if the configuration names it."""
    own = getattr(config, "pretrained_cfg", None) or {}
    size: Any = getattr(config, "image_size", None)
    sides = size if isinstance(size, list | tuple) else (size, size)
    shape = own.get("input_size") or (getattr(config, "num_channels", 3), *sides)
    known = len(shape) == 3 and all(isinstance(side, int) for side in shape)
    return (shape[0], shape[1], shape[2]) if known else None


@contextmanager
def _silent(transformers: Any) -> Iterator[None]:
    """What it says and draws while loading becomes an error here, or is of no use."""
    logging = transformers.utils.logging
    level, bar = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity(logging.CRITICAL)
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bar:
            logging.enable_progress_bar()


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [""])[0].rstrip(".")


# ---------------------------------------------------------------- image processors


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
