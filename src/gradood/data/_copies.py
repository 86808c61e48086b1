"""Copies of images: files of the same content in two data sets, under whatever names."""

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from torch.utils.data import ConcatDataset, Subset

from gradood.data.row_dataset import RowDataset
from gradood.errors import BadRowError

__all__ = ["shared_images"]

_TAIL = 4096


def shared_images(first: Any, second: Any) -> list[tuple[str, str]]:
    """Images of the second data set that the first has too, each with its twin; as they are called.

    Only files with the very same content are told, of this library's own data sets and what torch
    puts together of them; images behind URLs are not fetched for it.

    Args:
        first: map-style data set.
        second: another.

    Cost: reads the last 4 kB of each file, or all of what is in Parquet or archives; and all of
        those that look alike. Keeps some 100 bytes for each image of the first.
    """
    known: dict[bytes, list[tuple[RowDataset, int]]] = {}
    for dataset, index in _images(first):
        key = _key(dataset, index)
        if key is not None:
            known.setdefault(key, []).append((dataset, index))
    found: list[tuple[str, str]] = []
    for dataset, index in _images(second) if known else ():
        key = _key(dataset, index)
        twins = known.get(key, []) if key is not None else []
        digest = _digest(dataset, index) if twins else b""
        twin = next((one for one in twins if _digest(*one) == digest), None)
        if twin is not None:
            found.append((twin[0].name(twin[1]), dataset.name(index)))
    return found


def _images(dataset: Any) -> Iterator[tuple[RowDataset, int]]:
    if isinstance(dataset, RowDataset):
        yield from ((dataset, index) for index in range(len(dataset)))
    elif isinstance(dataset, ConcatDataset):
        for part in dataset.datasets:
            yield from _images(part)
    elif isinstance(dataset, Subset) and isinstance(dataset.dataset, RowDataset):
        yield from ((dataset.dataset, index) for index in dataset.indices)


def _key(dataset: RowDataset, index: int) -> bytes | None:
    """What files of the same content have in common, and few others."""
    try:
        encoded = dataset.encoded(index, fetch=False)
        if isinstance(encoded, Path):
            with encoded.open("rb") as stream:
                size = stream.seek(0, os.SEEK_END)
                stream.seek(max(0, size - _TAIL))
                tail = stream.read()
        elif encoded is None:
            return None
        else:
            size, tail = len(encoded), encoded[-_TAIL:]
    except (OSError, BadRowError):
        return None
    return hashlib.sha256(b"%d " % size + tail).digest() if size else None


def _digest(dataset: RowDataset, index: int) -> bytes:
    encoded = dataset.encoded(index, fetch=False)
    content = encoded.read_bytes() if isinstance(encoded, Path) else encoded or b""
    return hashlib.sha256(content).digest()
