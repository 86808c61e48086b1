"""Answers of a batch as named arrays, in the data types of the Open Inference Protocol."""

import struct
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

__all__ = [
    "Arrays",
    "NUMPY_TYPES",
    "SENTINEL",
    "pack",
    "packed_bytes",
    "rows_of",
    "split_bytes",
    "unpack",
]

SENTINEL = 3.4028235e38
"""Score of what has no finite one: JSON has no infinity."""

NUMPY_TYPES: Mapping[str, str] = {
    **{"FP32": "<f4", "FP64": "<f8", "INT64": "<i8"},
    **{"BOOL": "|b1", "UINT8": "|u1"},
}
"""Data type → that of NumPy; BYTES are lists of bytes."""

Arrays = dict[str, tuple[str, Any]]
"""Name → data type and values: an array, or a list of bytes."""


def packed_bytes(values: Sequence[bytes]) -> bytes:
    """BYTES as the protocol's binary form has them: each with its length before it."""
    return b"".join(part for value in values for part in (struct.pack("<I", len(value)), value))


def pack(arrays: Arrays) -> tuple[list[Any], bytes]:
    """Description and bytes of some arrays, to be sent.

    Args:
        arrays: of equal first dimension.
    """
    described, parts = [], []
    for name, (kind, values) in arrays.items():
        data = (
            packed_bytes(values)
            if kind == "BYTES"
            else np.ascontiguousarray(values, NUMPY_TYPES[kind]).tobytes()
        )
        shape = [len(values)] if kind == "BYTES" else list(np.shape(values))
        described.append([name, kind, shape, len(data)])
        parts.append(data)
    return described, b"".join(parts)


def unpack(described: Sequence[Any], body: Any) -> Arrays:
    """What `pack` was given.

    Args:
        described: by `pack`.
        body: the bytes.

    Raises:
        ValueError: they do not fit the description.
    """
    found: Arrays = {}
    place = 0
    view = memoryview(body)
    for name, kind, shape, size in described:
        part = view[place : place + size]
        place += size
        if kind == "BYTES":
            found[name] = (kind, split_bytes(part, shape[0]))
        else:
            found[name] = (kind, np.frombuffer(part, NUMPY_TYPES[kind]).reshape(shape))
    return found


def split_bytes(data: memoryview, count: int) -> list[bytes]:
    """The values of BYTES in binary form.

    Args:
        data: each value with its length, four bytes, before it.
        count: how many values there are.

    Raises:
        ValueError: there are more or fewer.
    """
    values, place = [], 0
    while place < len(data) and len(values) < count:
        if place + 4 > len(data):
            raise ValueError("a length is cut off")
        (size,) = struct.unpack_from("<I", data, place)
        place += 4
        if place + size > len(data):
            raise ValueError("a value is cut off")
        values.append(bytes(data[place : place + size]))
        place += size
    if place != len(data) or len(values) != count:
        raise ValueError(f"its bytes hold another number of values than {count}")
    return values


def rows_of(arrays: Arrays, rows: slice) -> Arrays:
    """Some rows of each array, such as those of one request of a batch."""
    return {name: (kind, values[rows]) for name, (kind, values) in arrays.items()}
