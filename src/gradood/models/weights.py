"""Weights read from a file: tensors only, checked against the model before any is copied."""

import pickle
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from gradood.errors import ConfigError, DataError

__all__ = ["load_weights"]

_M = TypeVar("_M", bound=nn.Module)

# Under these keys training scripts keep the state dict, next to the optimizer's.
_WRAPPERS = ("state_dict", "model_state_dict", "model")


def load_weights(model: _M, path: str | Path) -> _M:
    """The model, with the weights of a safetensors or state-dict file.

    The kind of file is told from its content. A state dict is read with ``weights_only=True``, so
    that no code in it runs; it may lie under ``"state_dict"``, ``"model_state_dict"`` or
    ``"model"``. What DataParallel, DDP and `torch.compile` put before the names (``module.``,
    ``_orig_mod.``) is ignored on both sides, and so is what all of the file's names begin with,
    such as Lightning's ``model.``, if without it they are the model's own. Every name and shape
    must match, except that BatchNorm's ``num_batches_tracked`` may be absent, and becomes 0.

    Args:
        model: changed in place, if everything matches; otherwise not at all. Its training flags
            stay as they are.
        path: the file.

    Returns:
        `model` itself.

    Raises:
        DataError: the file is absent, unreadable, or holds more than tensors.
        ConfigError: the names or shapes are not those of the model.

    Cost: the file is read to the CPU once.
    """
    file = Path(path)
    given = _plain(_read(file))
    own = model.state_dict()
    names = dict(zip(_plain(own), own, strict=True))
    given = _without_prefix(given, names)
    _check(given, {plain: own[name] for plain, name in names.items()}, model, file)
    # A plain dict carries no version, and so BatchNorm takes an absent num_batches_tracked as 0.
    model.load_state_dict({names[plain]: tensor for plain, tensor in given.items()}, strict=True)
    return model


def _read(file: Path) -> Mapping[str, Any]:
    if not file.is_file():
        kind = "a folder" if file.is_dir() else "absent"
        raise DataError(
            f"no weights at {str(file)!r}: it is {kind}; expected a safetensors or state-dict file."
        )
    try:
        with file.open("rb") as stream:
            # safetensors: the length of a JSON object in eight bytes, then that object.
            if stream.read(9)[8:] == b"{":
                return load_file(file)
            stream.seek(0)
            # Not by its path, whose suffix would decide.
            found = torch.load(stream, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise DataError(
            f"{str(file)!r} is not read, as it is damaged or holds more than tensors, which could "
            f"run code: {_first_line(error)}. Save model.state_dict(), or better safetensors."
        ) from error
    except MemoryError:
        raise
    except Exception as error:  # A damaged file makes the readers raise whatever it makes them.
        raise DataError(
            f"{str(file)!r} cannot be read as weights: {_first_line(error)}; expected a "
            "safetensors file or one written by torch.save(model.state_dict())."
        ) from error
    return _unwrap(found, file)


def _unwrap(found: Any, file: Path) -> Mapping[str, Any]:
    for key in _WRAPPERS:
        if isinstance(found, Mapping) and isinstance(found.get(key), Mapping):
            found = found[key]
            break
    tensors = isinstance(found, Mapping) and any(isinstance(v, Tensor) for v in found.values())
    if not tensors or not all(isinstance(name, str) for name in found):
        held = sorted(map(str, found))[:5] if isinstance(found, Mapping) else type(found).__name__
        raise DataError(
            f"{str(file)!r} holds {held}; expected a state dict, tensors by name, alone or under "
            f"one of {', '.join(_WRAPPERS)}. Save model.state_dict()."
        )
    return found


def _plain(state: Mapping[str, Any]) -> dict[str, Any]:
    """The same values under names without the marks of wrappers."""
    plain = {name.replace("_orig_mod.", ""): value for name, value in state.items()}
    while plain and all(name.startswith("module.") for name in plain):
        plain = {name.removeprefix("module."): value for name, value in plain.items()}
    return plain


def _without_prefix(given: dict[str, Any], own: Iterable[str]) -> dict[str, Any]:
    """The weights without what comes before every name, where that makes them the model's own."""
    prefix = _prefix(given, own)
    inner = {name.removeprefix(prefix): value for name, value in given.items()}
    return inner if prefix and len(inner) == len(given) and set(inner) <= set(own) else given


def _prefix(given: Iterable[str], own: Iterable[str]) -> str:
    """What the model's names all have before them in the file; empty if there is no such thing."""
    needed = [name for name in own if not name.endswith("num_batches_tracked")]
    names = set(given)
    if not needed or names.issuperset(needed):
        return ""
    ends = (name.removesuffix(needed[0]) for name in names if name.endswith(f".{needed[0]}"))
    return next((p for p in sorted(ends) if names.issuperset(p + n for n in needed)), "")


def _check(given: dict[str, Any], own: dict[str, Any], model: nn.Module, file: Path) -> None:
    missing = [n for n in own if n not in given and not n.endswith("num_batches_tracked")]
    unexpected = [name for name in given if name not in own]
    shapes = [
        f"{name} {tuple(given[name].shape)}, here {tuple(own[name].shape)}"
        for name in own
        if isinstance(own[name], Tensor)
        and isinstance(given.get(name), Tensor)
        and own[name].shape != given[name].shape
    ]
    faults = [
        f"{len(names)} {what}: {', '.join(names[:3])}{', …' if len(names) > 3 else ''}"
        for what, names in (
            ("missing in the file", missing),
            ("unknown to the model", unexpected),
            ("of another shape", shapes),
        )
        if names
    ]
    prefix = _prefix(given, own)
    if prefix:
        others = [name for name in given if not name.startswith(prefix)]
        raise ConfigError(
            f"the weights of {type(model).__name__} are in {str(file)!r} under the prefix "
            f"{prefix!r}, beside others ({', '.join(others[:3])}); expected them alone. Save that "
            "part by itself, as in torch.save(lightning_module.model.state_dict(), …)."
        )
    if faults:
        raise ConfigError(
            f"the weights of {str(file)!r} are not those of {type(model).__name__}: "
            f"{'; '.join(faults)}. Choose the model the file was written for, with the same "
            "options (number of classes)."
        )


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
