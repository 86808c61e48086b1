"""What is given in place of data, labels or a model by mistake, and what to type instead.

Types of other libraries are told by their names, so that none is imported.
"""

from collections.abc import Callable, Iterator, Mapping
from functools import wraps
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from gradood.errors import OptionError

__all__ = [
    "batch_hint",
    "data_hint",
    "labels_hint",
    "labels_in_pairs",
    "used_up",
    "views_hint",
]

_Class = TypeVar("_Class", bound=type)

_LOADER = "give DataLoader(data, batch_size=64)"


def labels_in_pairs(monitor: _Class) -> _Class:
    """A class whose methods tell where labels belong that are given beside the data.

    Args:
        monitor: with the methods of `gradood.Monitor`.
    """
    for name in ("fit", "accumulate", "score", "calibrate", "predict", "bind"):
        setattr(monitor, name, _of_data_alone(name, getattr(monitor, name)))
    return monitor


def _of_data_alone(name: str, method: Callable[..., Any]) -> Callable[..., Any]:
    learns = name in ("fit", "accumulate")
    example = f"give pairs: monitor.{name}([(x, y)])" if learns else f"monitor.{name}(x)"

    @wraps(method)
    def checked(self: Any, *data: Any, **options: Any) -> Any:
        if len(data) > 1:
            why = (
                "labels come with the data" if learns else "labels are not used, options are named"
            )
            raise OptionError(f"{name} takes the data alone, as {why}; {example}.")
        return method(self, *data, **options)

    return checked


def data_hint(data: object) -> str:
    """What to type where this was given for a tensor or an iterable of batches; may be empty.

    Args:
        data: that is neither.
    """
    if isinstance(data, nn.Module):
        return " The model comes first: Monitor(model, detectors).fit(data)."
    if isinstance(data, type):
        return " Make one of it first."
    if isinstance(data, Mapping):
        return " A mapping is one batch: give [batch]."
    if isinstance(data, str | bytes) or hasattr(data, "__fspath__"):
        return (
            " Images in a folder: gradood.data.loader(gradood.data.open_images(path, "
            "gradood.data.Preprocess(resize=…, crop=…)))."
        )
    if _is_image(data):
        return _IMAGE
    if _is_frame(data):
        return _FRAME
    if hasattr(data, "__getitem__") and hasattr(data, "__len__"):
        return f" Single samples are no batches: {_LOADER}."
    return ""


def batch_hint(value: object) -> str:
    """What to type where this stands for the inputs of a batch.

    Args:
        value: that is no tensor with a batch.
    """
    first = value[0] if isinstance(value, list | tuple) and len(value) else value
    if _is_image(first):
        return _IMAGE
    if _is_frame(value):
        return _FRAME
    if isinstance(first, str | bytes) or hasattr(first, "__fspath__"):
        return data_hint(str(first))
    if isinstance(value, Mapping):
        keys = ", ".join(repr(str(key)) for key in list(value)[:6])
        return (
            f" It has the keys {keys}: give one tensor of it, with its labels as "
            "{'pixel_values': x, 'labels': y}."
        )
    if isinstance(value, list | tuple) and isinstance(first, Tensor | np.ndarray):
        return " Stack the images of a batch: torch.stack(images)."
    if isinstance(value, np.ndarray):
        return f" Its values are {value.dtype}; give numbers, such as array.astype('float32')."
    if isinstance(value, nn.Module | type):
        return data_hint(value)
    return f" A single tensor is one batch, not a loader of images: {_LOADER}."


def labels_hint(labels: object, size: int, classes: str = "the model's classes") -> str:
    """What to type where these were given for the labels of a batch.

    Args:
        labels: as given.
        size: rows of the batch.
        classes: in words.
    """
    first = labels[0] if isinstance(labels, list | tuple) and labels else None
    if isinstance(first, str) or (isinstance(labels, np.ndarray) and labels.dtype.kind in "USO"):
        return f"Names are no labels: number them in the order of {classes}, the first is 0."
    if _is_frame(labels):
        return "Give torch.tensor(column.to_numpy())."
    if isinstance(labels, Mapping):
        return "Give the labels alone, one whole number per input."
    shape = _shape(labels)
    if shape == ():
        return f"Single images with their labels are no batches: {_LOADER}."
    if shape in ((size,), (size, 1)):
        return "Targets of a regression are no classes: say link='none'; classes are 0, 1, 2, …"
    if len(shape) == 2 and shape[0] == size:
        return "One-hot labels, or probabilities, become classes by y.argmax(1)."
    if len(shape) == 1 and shape[0] >= 0:
        return f"Give one for each input, {size} in all."
    return "A pair of tensors is read as a loader of two batches: give [(x, y)]."


def views_hint(x: Tensor | np.ndarray, other: object) -> str | None:
    """Why the second item of a batch is another view of the first, and no labels; or None.

    Args:
        x: (batch, …) inputs.
        other: what follows them in the batch.
    """
    if not isinstance(other, Tensor | np.ndarray) or x.ndim < 2 or other.ndim != x.ndim:
        return None
    alike = x.shape == other.shape or (x.ndim > 2 and x.shape[:2] == other.shape[:2])
    if not alike or not (_floating(x) and _floating(other)):
        return None
    return (
        f"a batch is a pair of {tuple(x.shape)} and {tuple(other.shape)}, two views of the inputs, "
        "of which one would be dropped; expected a tensor, or a pair (x, y) with whole numbers as "
        "y. Give one view, or torch.cat of both; if the second are no inputs, give [(x, y)] with "
        "labels, or x alone."
    )


def used_up(data: object) -> str:
    """A hint where nothing came out of an iterator; empty for anything else."""
    if not isinstance(data, Iterator):
        return ""
    return f" A {type(data).__name__} can be read once: give a list, or a loader."


_IMAGE = (
    " An image becomes an input by gradood.data.Preprocess(…)(image)[None], or as in training; "
    "several by torch.stack."
)
_FRAME = " Of a table, give torch.tensor(frame.to_numpy(), dtype=torch.float32)."


def _is_image(value: object) -> bool:
    return any(base.__module__ == "PIL.Image" for base in type(value).__mro__)


def _is_frame(value: object) -> bool:
    return hasattr(value, "to_numpy") and not isinstance(value, Tensor | type)


def _shape(value: Any) -> tuple[int, ...]:
    if isinstance(value, Tensor | np.ndarray):
        return tuple(value.shape)
    try:
        return tuple(torch.as_tensor(value, device="cpu").shape)
    except (TypeError, ValueError, RuntimeError):
        return (-1,)


def _floating(array: Tensor | np.ndarray) -> bool:
    return array.dtype.kind == "f" if isinstance(array, np.ndarray) else array.is_floating_point()
