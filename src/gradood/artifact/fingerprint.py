"""The fingerprint of a model: a strict hash of its parameters and buffers, and its structure."""

import hashlib
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from gradood._io.canonical import encode
from gradood._io.hashing import plain_setting, update_state
from gradood.artifact.identity import Fingerprint
from gradood.taps import unwrap

__all__ = ["fingerprint"]

# Not part of what a model computes in evaluation mode: the mode itself, how running statistics
# are updated, and where a result is put.
_IRRELEVANT_SETTINGS = frozenset({"training", "momentum", "inplace"})
_COUNTER = "num_batches_tracked"  # Counts training steps; many weight files leave it out.


def fingerprint(model: nn.Module) -> Fingerprint:
    """What tells this model from any other, down to the last bit of a weight.

    Over the sorted names of parameters and buffers, also those that no state dict has: type, shape
    and SHA-256 of the values; the class of every module; and for modules of torch their settings,
    such as ``eps``, ``stride`` or ``padding``. The same however the model is wrapped (DDP,
    compile), on whatever device, in whatever memory layout, whether or not it requires grad.

    Plain attributes of other modules, such as a mean that a wrapper subtracts, are not seen:
    the canary inputs are there for these. Of BatchNorm, ``num_batches_tracked`` and the momentum
    are left out, as both only matter in training.

    Args:
        model: as it is; nothing is changed.

    Raises:
        TapError: it is no `nn.Module`, or a TorchScript one.
        DataError: a tensor holds no data.

    Cost: every parameter and buffer is copied to the CPU and hashed, about a gigabyte a second.

    >>> fingerprint(torch.nn.BatchNorm1d(3)).modules[""]["eps"]
    1e-05
    """
    digest = hashlib.sha256()
    tensors: dict[str, str] = {}
    modules: dict[str, Mapping[str, Any]] = {}
    hashed: dict[int, tuple[str, str]] = {}
    found: dict[str, Any] = {}
    for name, module in _modules(unwrap(model), "", ()):
        modules[name] = {"class": _class_name(type(module)), **_settings(module)}
        prefix = f"{name}." if name else ""
        found.update((prefix + key, value) for key, value in _values(module).items())
    for name in sorted(found):
        value = found[name]
        if id(value) not in hashed:
            hashed[id(value)] = _hashed(value, name)
        kind, full = hashed[id(value)]
        tensors[name] = f"{kind} {full[:32]}"
        digest.update(f"{encode(name)} {kind} {full}\n".encode("ascii"))
    return Fingerprint(
        digest=digest.hexdigest(), tensors=tensors, modules=dict(sorted(modules.items()))
    )


def _modules(
    module: nn.Module, name: str, above: tuple[nn.Module, ...]
) -> Iterator[tuple[str, nn.Module]]:
    """Every module under every name it has, wrappers left out."""
    yield name, module
    for key, child in module._modules.items():
        if child is not None and all(child is not other for other in above):
            inner = _unwrapped(child)
            yield from _modules(inner, f"{name}.{key}" if name else key, (*above, module))


def _unwrapped(module: nn.Module) -> nn.Module:
    # TorchScript inside an eager model is hashed as it is.
    return module if isinstance(module, torch.jit.ScriptModule) else unwrap(module)


def _values(module: nn.Module) -> dict[str, Any]:
    """Parameters, buffers and extra state of one module alone."""
    found: dict[str, Any] = {}
    # What quantized modules hold beside parameters and buffers is told by this hook of torch alone.
    module._save_to_state_dict(found, "", True)
    for own in (module._parameters, module._buffers):
        found.update((key, value) for key, value in own.items() if value is not None)
    if isinstance(module, nn.modules.batchnorm._NormBase):
        found.pop(_COUNTER, None)
    return found


def _class_name(kind: type) -> str:
    """Short for modules of torch.nn, in full for others of torch, without a path for others."""
    if getattr(nn, kind.__name__, None) is kind or not kind.__module__.startswith("torch."):
        return kind.__qualname__
    return f"{kind.__module__}.{kind.__qualname__}"


def _settings(module: nn.Module) -> dict[str, Any]:
    """Public scalars of a module of torch; in plain JSON."""
    if not type(module).__module__.startswith("torch."):
        return {}
    public = (
        (key, plain_setting(value))
        for key, value in sorted(vars(module).items())
        if not key.startswith("_") and key not in _IRRELEVANT_SETTINGS
    )
    return {key: value for key, value in public if value is not NotImplemented}


def _hashed(value: Any, name: str) -> tuple[str, str]:
    """What a value is, in a word without spaces, and its SHA-256."""
    digest = hashlib.sha256()
    update_state(digest, value, name)
    if isinstance(value, Tensor):
        shape = ",".join(map(str, value.shape))
        return f"{value.dtype}[{shape}]".removeprefix("torch."), digest.hexdigest()
    return type(value).__name__, digest.hexdigest()
