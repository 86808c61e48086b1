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
        DataError: an item is none of these, or labels do not fit their inputs.
    """
    if isinstance(data, Tensor | np.ndarray):
        yield _batch(data, labels)
        return
    if isinstance(data, str | bytes | Mapping) or not isinstance(data, Iterable):
        raise DataError(
            f"data is a {type(data).__name__}; expected a tensor (one batch), or an iterable of "
            "batches such as a DataLoader."
        )
    for item in data:
        yield _batch(item, labels)


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
    if isinstance(given, np.ndarray) and given.dtype.kind in "fiub":
        # torch warns about arrays it may not write to, such as read-only memory maps.
        return torch.from_numpy(given if given.flags.writeable else given.copy())
    return given if isinstance(given, Tensor) else None


def _labels(given: Any, size: int) -> Tensor:
    labels = torch.as_tensor(given) if isinstance(given, list | tuple | int) else _tensor(given)
    whole = labels is not None and not (labels.is_floating_point() or labels.is_complex())
    if labels is None or not whole or labels.shape != (size,):
        what = type(given).__name__ if labels is None else f"{tuple(labels.shape)} {labels.dtype}"
        raise DataError(
            f"the labels of a batch of {size} are {what}; expected ({size},) whole numbers. "
            "A pair of tensors is read as a loader of two batches: give [(x, y)]."
        )
    return labels.to(torch.int64)
