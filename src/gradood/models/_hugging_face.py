"""Classifiers of images, texts and sound in folders of Hugging Face's form."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from gradood.errors import ConfigError, DataError
from gradood.models._encoders import audio_input, text_input
from gradood.models._image_processor import processor_inputs
from gradood.models._libraries import library, timm_inputs
from gradood.models._transformers import LOCAL, first_line, silent
from gradood.models.opened import OpenedModel

__all__ = ["open_folder"]

_TASKS = {
    "AutoModelForImageClassification": "image",
    "AutoModelForAudioClassification": "audio",
    "AutoModelForSequenceClassification": "text",
    "AutoModelForTokenClassification": "text",
}
"""What a class of Transformers makes classifiers of, in the order in which they are tried."""


def open_folder(name: str, *, pretrained: bool, num_classes: int | None) -> OpenedModel:
    """A classifier from a local folder; nothing is fetched, and no code of the folder runs.

    Of images, or of texts, of their tokens, or of sound, as its configuration says.

    Args:
        name: the folder, with ``config.json``. Its weights must be safetensors; without any, the
            model has random ones.
        pretrained: refused, as a folder has its weights or not.
        num_classes: must be the folder's own if it has weights.

    Raises:
        DataError: there is no such folder.
        ConfigError: it is no classifier that Transformers knows, or its weights are not
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
    with silent(transformers):
        try:
            config = transformers.AutoConfig.from_pretrained(folder, **LOCAL)
            auto = _auto(transformers, config)
            model = _model(transformers, auto, folder, config, files, num_classes)
        except (ConfigError, ImportError):
            raise
        except Exception as error:
            raise ConfigError(
                f"Transformers cannot read a classifier from {str(folder)!r}: "
                f"{type(error).__name__}: {first_line(error)}."
            ) from error
    task = _TASKS[auto]
    if task != "image":
        encoder = text_input if task == "text" else audio_input
        return OpenedModel(
            model=model.float(),
            trained=bool(files),
            weights=files,
            reads=task,
            encoder=partial(encoder, transformers, folder, model),
        )
    return OpenedModel(
        model=model.float(),
        inputs=lambda given: _inputs(transformers, folder, config),
        shape=_shape(config),
        trained=bool(files),
        weights=files,
    )


def _auto(transformers: Any, config: Any) -> str:
    """The class of Transformers that makes the classifier of a configuration.

    A configuration that several know names its own; with none named, the first is meant.
    """
    found: dict[str, str] = {}
    for name in _TASKS:
        known = getattr(getattr(transformers, name, None), "_model_mapping", {})
        if type(config) in known:
            made = known[type(config)]
            classes = made if isinstance(made, tuple) else (made,)
            found |= {one.__name__: name for one in classes}
    named = [found[one] for one in getattr(config, "architectures", None) or () if one in found]
    return next(iter([*named, *found.values()]), "AutoModelForImageClassification")


def _model(
    transformers: Any,
    kind: str,
    folder: Path,
    config: Any,
    files: tuple[Path, ...],
    classes: int | None,
) -> Any:
    auto = getattr(transformers, kind)
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
        folder, config=config, use_safetensors=True, output_loading_info=True, **LOCAL
    )
    # What the file lacks, Transformers fills with random numbers.
    lacking = [*map(str, found["missing_keys"]), *map(str, found.get("mismatched_keys", ()))]
    if lacking:
        raise ConfigError(
            f"the weights in {str(folder)!r} lack {len(lacking)} tensors of "
            f"{type(model).__name__}, such as {sorted(lacking)[0]}; expected a trained "
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
        with silent(transformers):
            processor = transformers.AutoImageProcessor.from_pretrained(folder, **kind, **LOCAL)
    except ImportError:
        raise
    except Exception as error:
        raise ConfigError(
            f"Transformers cannot read preprocessor_config.json in {str(folder)!r}: "
            f"{type(error).__name__}: {first_line(error)}."
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
