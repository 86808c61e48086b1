"""JSON that every parser reads, without a bare NaN or Infinity."""

import json
import math
from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

from torch import Tensor

from gradood._io.markdown import cell

__all__ = ["cell", "json_text", "plain", "writable"]


def plain(value: Any) -> Any:
    """The value in terms of JSON's types.

    Numbers that JSON lacks become the strings ``"nan"``, ``"inf"`` and ``"-inf"``, which `float`
    reads back.

    Raises:
        TypeError: the value has no plain form.

    Example:
        >>> plain({"order": float("inf"), "layers": ("a", "b")})
        {'order': 'inf', 'layers': ['a', 'b']}
    """
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, Mapping):
        return {str(key): plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [plain(inner) for inner in value]
    if isinstance(value, Tensor):
        return plain(value.tolist())
    if isinstance(value, PurePath):
        return str(value)
    raise TypeError(f"{value!r} of type {type(value).__name__} has no plain form.")


def json_text(value: Any) -> str:
    """One JSON document, indented, ending in a newline; it can be encoded as UTF-8."""
    return writable(json.dumps(plain(value), indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def writable(text: str) -> str:
    """A text that can be encoded as UTF-8.

    Bytes of a path that are not UTF-8 become ``\\udcXX``, which JSON reads back as they were.
    """
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
