"""Batches of images and labels out of whatever a user's loader yields."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gradood.errors import DataError

__all__ = ["Batch", "Data", "batches"]

Data = Tensor | np.ndarray | Iterable[Any]
"""One batch, as a tensor or array, or an iterable of batches."""

_IMAGE_KEYS = ("pixel_values", "image", "x")
_LABEL_KEYS = ("labels", "label")


@dataclass(frozen=True, eq=False, slots=True)
class Batch:
    """Inputs and, if there were any, labels.

    Attributes:
        x: (batch, …).
        labels: (batch,) int64, or None.
    """

    x: Tensor
    labels: Tensor | None


def batches(data: Data, *, labels: bool = False) -> Iterator[Batch]:
    """The batches in `data`.

    Args:
        data: a tensor is one batch; any other iterable yields batches: ``x``, ``(x, y)`` or a
            mapping with ``pixel_values``, ``image`` or ``x`` and ``labels`` or ``label``.
        labels: whether labels are wanted; if not, they are not even looked at.

    Raises:
        DataError: an item is none of these, labels do not fit their inputs, or `data` is itself a
            pair (x, y), whose tensors would be read as two batches.
    """
    if isinstance(data, Tensor | np.ndarray):
        yield _batch(data, labels)
        return
    if isinstance(data, str | bytes | Mapping) or not isinstance(data, Iterable):
        hint = " A mapping is one batch: give [batch]." if isinstance(data, Mapping) else ""
        raise DataError(
            f"data is a {type(data).__name__}; expected a tensor (one batch), or an iterable of "
            f"batches such as a DataLoader.{hint}"
        )
    _refuse_pair(data)
    for item in data:
        yield _batch(item, labels)


def _refuse_pair(data: Iterable[Any]) -> None:
    """What follows a tensor and can be no batch of the same model belongs to it, such as labels."""
    if not isinstance(data, tuple | list) or len(data) < 2:
        return
    x, *others = data
    if not isinstance(x, Tensor | np.ndarray) or x.ndim == 0:
        return
    odd = [other for other in others if not _may_follow(x, other)]
    if odd:
        what = "pair" if len(others) == 1 else type(data).__name__
        given = " and ".join(map(_told, (x, odd[0])))
        raise DataError(
            f"data is a {what} of {given}, which would be read as {len(data)} batches; expected a "
            "loader of batches. Labels belong to their batch: give [(x, y)], or x alone where none "
            "are needed."
        )


def _may_follow(x: Tensor | np.ndarray, other: Any) -> bool:
    """Whether it can be a batch of the same model."""
    if isinstance(other, Tensor | np.ndarray):
        # Batches of images may differ in size, but not in rank, channels or kind of number.
        alike = x.ndim == other.ndim and x.shape[1:2] == other.shape[1:2]
        return alike and _floating(x) == _floating(other)
    if isinstance(other, tuple | list):
        return any(isinstance(one, Tensor | np.ndarray) and one.ndim > 0 for one in other)
    return isinstance(other, Mapping)


def _told(given: Any) -> str:
    if isinstance(given, Tensor | np.ndarray):
        return f"{tuple(given.shape)} {given.dtype}"
    if isinstance(given, tuple | list | range):
        return f"a {type(given).__name__} of {len(given)}"
    return f"a {type(given).__name__}" if given is not None else "None"


def _floating(array: Tensor | np.ndarray) -> bool:
    return array.dtype.kind == "f" if isinstance(array, np.ndarray) else array.is_floating_point()


def _batch(item: Any, wanted: bool) -> Batch:
    given, labels = item, None
    if isinstance(item, Mapping):
        given = next((item[key] for key in _IMAGE_KEYS if key in item), None)
        labels = next((item[key] for key in _LABEL_KEYS if key in item), None)
        if given is None:
            raise DataError(
                f"a batch has keys {sorted(map(str, item))}; expected one of {_IMAGE_KEYS}."
            )
    elif isinstance(item, tuple | list) and item:
        given = item[0]
        labels = item[1] if len(item) > 1 else None
    x = _tensor(given)
    if x is None or x.ndim == 0:
        raise DataError(
            f"a batch is a {type(given).__name__}; expected a tensor (batch, …), a pair (x, y) or "
            "a mapping. A single tensor is one batch, not a loader of images."
        )
    return Batch(x, _labels(labels, len(x)) if wanted and labels is not None else None)


def _tensor(given: Any) -> Tensor | None:
    if isinstance(given, np.ndarray) and given.dtype.kind in "fiub" and given.itemsize <= 8:
        if not given.dtype.isnative:
            given = given.astype(given.dtype.newbyteorder("="))
        # torch takes no negative strides, and warns about arrays it may not write to, such as
        # read-only memory maps.
        plain = given.flags.writeable and min(given.strides, default=0) >= 0
        return torch.from_numpy(given if plain else given.copy())
    return given if isinstance(given, Tensor) else None


def _labels(given: Any, size: int) -> Tensor:
    labels = _listed(given) if isinstance(given, list | tuple | int) else _tensor(given)
    whole = labels is not None and not (labels.is_floating_point() or labels.is_complex())
    if labels is None or not whole or labels.shape != (size,):
        what = type(given).__name__ if labels is None else f"{tuple(labels.shape)} {labels.dtype}"
        one = labels is not None and labels.ndim == 0
        hint = (
            "Single images with their labels are no batches: give DataLoader(data, batch_size=64)."
            if one
            else "A pair of tensors is read as a loader of two batches: give [(x, y)]."
        )
        raise DataError(
            f"the labels of a batch of {size} are {what}; expected ({size},) whole numbers. {hint}"
        )
    return labels.to(torch.int64)


def _listed(given: Any) -> Tensor | None:
    """Labels in a list, on the CPU whatever the default device is; None if they are no numbers."""
    try:
        return torch.as_tensor(given, device="cpu")
    except (TypeError, ValueError, RuntimeError):
        return None
