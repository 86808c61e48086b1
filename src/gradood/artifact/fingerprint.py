"""The fingerprint of a model: a strict hash of its parameters and buffers, and its structure."""

import hashlib
import io
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from gradood.artifact.identity import Fingerprint
from gradood.errors import DataError
from gradood.io.canonical import encode
from gradood.io.hashing import little_endian
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
        (key, _plain(value))
        for key, value in sorted(vars(module).items())
        if not key.startswith("_") and key not in _IRRELEVANT_SETTINGS
    )
    return {key: value for key, value in public if value is not NotImplemented}


def _plain(value: Any) -> Any:
    """A setting in plain JSON; NotImplemented for what has no such form."""
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, int):
        return int(value) if -(2**63) <= value < 2**64 else str(value)
    if isinstance(value, float):
        return value if abs(value) < float("inf") else str(value)
    if isinstance(value, torch.dtype | torch.qscheme):
        return str(value)
    if isinstance(value, list | tuple):
        items = [_plain(item) for item in value]
        return NotImplemented if NotImplemented in items else items
    return NotImplemented


def _hashed(value: Any, name: str) -> tuple[str, str]:
    """What a value is, in a word without spaces, and its SHA-256."""
    digest = hashlib.sha256()
    _feed(digest, value, name)
    if isinstance(value, Tensor):
        shape = ",".join(map(str, value.shape))
        return f"{value.dtype}[{shape}]".removeprefix("torch."), digest.hexdigest()
    return type(value).__name__, digest.hexdigest()


def _feed(digest: Any, value: Any, name: str) -> None:
    """Add a tensor, or extra state of any structure, to a hash."""
    if isinstance(value, Tensor):
        _feed_tensor(digest, value, name)
    elif isinstance(value, Mapping):
        for key in sorted(value, key=str):
            digest.update(f"{key!s}:".encode())
            _feed(digest, value[key], name)
    elif isinstance(value, list | tuple):
        digest.update(f"{len(value)}".encode())
        for item in value:
            _feed(digest, item, name)
    elif isinstance(value, bytes | bytearray):
        digest.update(value)
    elif isinstance(value, io.BytesIO):
        digest.update(value.getbuffer())
    elif _plain(value) is not NotImplemented:
        digest.update(repr(_plain(value)).encode())
    else:  # Its text may hold an address, which would differ every time.
        digest.update(type(value).__qualname__.encode())


def _feed_tensor(digest: Any, value: Tensor, name: str) -> None:
    if value.is_meta or is_lazy(value):
        raise DataError(
            f"{name} holds no data yet; load the model's weights, or run it once, before this."
        )
    digest.update(f"{value.dtype}{tuple(value.shape)}".encode())
    if value.is_quantized:
        _feed(digest, _quantized(value), name)
    elif value.layout == torch.sparse_coo:
        value = value.coalesce()
        _feed(digest, [value.indices(), value.values()], name)
    elif value.layout != torch.strided:
        _feed_tensor(digest, value.to_dense(), name)
    elif hasattr(value, "__tensor_flatten__"):  # A subclass made of other tensors.
        inner, _ = value.__tensor_flatten__()  # type: ignore[attr-defined]
        _feed(digest, {key: getattr(value, key) for key in inner}, name)
    else:
        digest.update(little_endian(value))


def _quantized(value: Tensor) -> list[Any]:
    """The integers of a quantized tensor, and what they stand for."""
    scheme = value.qscheme()
    if scheme in (torch.per_tensor_affine, torch.per_tensor_symmetric):
        return [value.int_repr(), value.q_scale(), value.q_zero_point()]
    return [
        value.int_repr(),
        value.q_per_channel_scales(),
        value.q_per_channel_zero_points(),
        value.q_per_channel_axis(),
    ]
