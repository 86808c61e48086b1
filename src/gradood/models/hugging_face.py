"""Image classifiers in folders of Hugging Face's form, and their image processor's settings."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from gradood.errors import ConfigError, DataError
from gradood.models.library import library
from gradood.models.opened import OpenedModel
from gradood.models.processor import processor_inputs
from gradood.models.timm import timm_inputs

__all__ = ["open_folder"]

_LOCAL = {"local_files_only": True, "trust_remote_code": False}


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
