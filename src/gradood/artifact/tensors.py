"""Between torch's tensors and what an artifact holds."""

import math
import sys
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gradood._io.hashing import little_endian
from gradood.artifact.container import ITEM_SIZES, Spec, Stored
from gradood.errors import ArtifactError

__all__ = ["from_torch", "pack", "to_torch", "unpack"]

_DTYPES = {
    "BOOL": torch.bool,
    "BF16": torch.bfloat16,
    "F16": torch.float16,
    "F32": torch.float32,
    "F64": torch.float64,
    "I8": torch.int8,
    "I16": torch.int16,
    "I32": torch.int32,
    "I64": torch.int64,
    "U8": torch.uint8,
    "U16": torch.uint16,
    "U32": torch.uint32,
    "U64": torch.uint64,
}
_NAMES = {dtype: name for name, dtype in _DTYPES.items()}
_TENSOR, _FLOAT, _TUPLE = "$tensor", "$float", "$tuple"


def from_torch(tensor: Tensor) -> Stored:
    """A tensor as an artifact holds it, on whatever device and in whatever layout it is.

    Raises:
        ArtifactError: its type cannot be stored.

    Cost: no copy of a contiguous tensor on the CPU.
    """
    if tensor.dtype not in _NAMES or tensor.layout != torch.strided:
        raise ArtifactError(
            f"a tensor is {tensor.dtype} of {tensor.layout}; expected a dense one of "
            f"{', '.join(sorted(str(dtype) for dtype in _NAMES))}."
        )
    return Stored(Spec(_NAMES[tensor.dtype], tuple(tensor.shape)), little_endian(tensor))


def to_torch(stored: Stored) -> Tensor:
    """A tensor on the CPU that shares its bytes with `stored` where it can.

    Args:
        stored: from `gradood.artifact.read`.
    """
    dtype = _DTYPES[stored.spec.dtype]
    if not stored.spec.size:
        return torch.empty(stored.spec.shape, dtype=dtype)
    data: Any = stored.data if not memoryview(stored.data).readonly else bytearray(stored.data)
    width = ITEM_SIZES[stored.spec.dtype]
    if sys.byteorder == "big" and width > 1:
        data = bytearray(np.frombuffer(data, f"u{width}").byteswap().tobytes())
    if dtype == torch.bool:  # Any other byte than 0 is true: torch takes bytes above 1 as they are.
        return (torch.frombuffer(data, dtype=torch.uint8) != 0).reshape(stored.spec.shape)
    return torch.frombuffer(data, dtype=dtype).reshape(stored.spec.shape)


def pack(value: Any, prefix: str) -> tuple[Any, dict[str, Tensor]]:
    """A value as plain JSON, and the tensors in it under names of their own.

    A tensor becomes ``{"$tensor": name}``, a tuple ``{"$tuple": [...]}``, and a number that JSON
    lacks ``{"$float": "inf"}``.

    Args:
        value: made of None, bool, int, float, str, Tensor, list, tuple, and dict with str keys.
        prefix: of the tensors' names, such as ``detectors/grood/options``.

    Raises:
        ArtifactError: something else is in it; says what and where.

    >>> pack({"order": float("inf"), "layers": ("a", "b")}, "options")[0]
    {'order': {'$float': 'inf'}, 'layers': {'$tuple': ['a', 'b']}}
    """
    tensors: dict[str, Tensor] = {}
    return _pack(value, prefix, tensors), tensors


def unpack(value: Any, tensors: Mapping[str, Tensor]) -> Any:
    """What `pack` was given.

    Args:
        value: plain JSON from `pack`.
        tensors: of the artifact, by name.

    Raises:
        ArtifactError: a tag is unknown or its tensor missing.
    """
    if isinstance(value, list):
        return [unpack(item, tensors) for item in value]
    if not isinstance(value, dict):
        return value
    if not any(key.startswith("$") for key in value):
        return {key: unpack(inner, tensors) for key, inner in value.items()}
    (tag, inner), *more = value.items()
    if not more and tag == _TENSOR and isinstance(inner, str) and inner in tensors:
        return tensors[inner]
    if not more and tag == _FLOAT and inner in ("nan", "inf", "-inf"):
        return float(inner)
    if not more and tag == _TUPLE and isinstance(inner, list):
        return tuple(unpack(item, tensors) for item in inner)
    raise ArtifactError(
        f"{str(value)[:80]} is no tensor, tuple or number of this file; the file is refused."
    )


def _pack(value: Any, where: str, tensors: dict[str, Tensor]) -> Any:
    if isinstance(value, Tensor):
        tensors[where] = value
        return {_TENSOR: where}
    if isinstance(value, float) and not math.isfinite(value):
        return {_FLOAT: repr(float(value))}
    if isinstance(value, list | tuple):
        items = [_pack(item, f"{where}/{i}", tensors) for i, item in enumerate(value)]
        return {_TUPLE: items} if isinstance(value, tuple) else items
    if isinstance(value, Mapping):
        odd = [key for key in value if not isinstance(key, str) or key.startswith("$")]
        if odd:
            raise ArtifactError(
                f"{where} has the key {odd[0]!r}; expected strings that do not begin with $."
            )
        return {key: _pack(inner, f"{where}/{key}", tensors) for key, inner in value.items()}
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise ArtifactError(
        f"{where} is a {type(value).__name__}, which cannot be saved; expected None, booleans, "
        "numbers, strings, tensors, or lists, tuples and mappings of them."
    )
