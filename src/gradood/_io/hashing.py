"""SHA-256 digests of tensors and of the state of models, alike on every machine."""

import hashlib
import io
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.parameter import is_lazy

from gradood.errors import DataError

__all__ = [
    "files_digest",
    "little_endian",
    "plain_setting",
    "tensor_digest",
    "tensors_digest",
    "update_state",
]


def little_endian(tensor: Tensor) -> memoryview:
    """The bytes of a dense tensor: C order, little-endian."""
    flat = tensor.detach().resolve_conj().resolve_neg().cpu().contiguous().reshape(-1)
    raw = flat.view(torch.uint8).numpy() if flat.numel() else np.empty(0, np.uint8)
    # A complex number is two, each of which has its own order of bytes.
    width = tensor.element_size() // (2 if tensor.is_complex() else 1)
    if sys.byteorder == "big" and width > 1:
        raw = raw.reshape(-1, width)[:, ::-1].copy().reshape(-1)
    return raw.data.cast("B")


def tensor_digest(tensor: Tensor) -> str:
    """SHA-256 over type, shape and values of a dense tensor."""
    digest = hashlib.sha256(f"{tensor.dtype}{tuple(tensor.shape)}".encode())
    digest.update(little_endian(tensor))
    return digest.hexdigest()


def tensors_digest(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 over named dense tensors: names, types, shapes and values."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(f"{name} {tensor_digest(tensors[name])}\n".encode())
    return digest.hexdigest()


def files_digest(paths: Iterable[Path]) -> str:
    """SHA-256 over the contents of files, in their order.

    Raises:
        OSError: a file cannot be read.
    """
    digest = hashlib.sha256()
    for path in paths:
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def update_state(digest: Any, value: Any, name: str) -> None:
    """Add a tensor, or extra state of any structure, to a hash, as fingerprints are made.

    Args:
        digest: of `hashlib`.
        value: tensors of any layout, plain values and bytes, in mappings and lists; anything else
            counts by its type alone.
        name: of the value, for messages.

    Raises:
        DataError: a tensor holds no data.
    """
    if isinstance(value, Tensor):
        _update_tensor(digest, value, name)
    elif isinstance(value, Mapping):
        for key in sorted(value, key=str):
            digest.update(f"{key!s}:".encode())
            update_state(digest, value[key], name)
    elif isinstance(value, list | tuple):
        digest.update(f"{len(value)}".encode())
        for item in value:
            update_state(digest, item, name)
    elif isinstance(value, bytes | bytearray):
        digest.update(value)
    elif isinstance(value, io.BytesIO):
        digest.update(value.getbuffer())
    elif plain_setting(value) is not NotImplemented:
        digest.update(repr(plain_setting(value)).encode())
    else:  # Its text may hold an address, which would differ every time.
        digest.update(type(value).__qualname__.encode())


def plain_setting(value: Any) -> Any:
    """A setting of a module in plain JSON; NotImplemented for what has no such form."""
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, int):
        return int(value) if -(2**63) <= value < 2**64 else str(value)
    if isinstance(value, float):
        return value if abs(value) < float("inf") else str(value)
    if isinstance(value, torch.dtype | torch.qscheme):
        return str(value)
    if isinstance(value, list | tuple):
        items = [plain_setting(item) for item in value]
        return NotImplemented if NotImplemented in items else items
    return NotImplemented


def _update_tensor(digest: Any, value: Tensor, name: str) -> None:
    if value.is_meta or is_lazy(value):
        raise DataError(
            f"{name} holds no data yet; load the model's weights, or run it once, before this."
        )
    digest.update(f"{value.dtype}{tuple(value.shape)}".encode())
    if value.is_quantized:
        update_state(digest, _quantized(value), name)
    elif value.layout == torch.sparse_coo:
        value = value.coalesce()
        update_state(digest, [value.indices(), value.values()], name)
    elif value.layout != torch.strided:
        _update_tensor(digest, value.to_dense(), name)
    elif hasattr(value, "__tensor_flatten__"):  # A subclass made of other tensors.
        inner, _ = value.__tensor_flatten__()  # type: ignore[attr-defined]
        update_state(digest, {key: getattr(value, key) for key in inner}, name)
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
