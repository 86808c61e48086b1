"""Batches of inputs and labels out of whatever a user's loader yields, and shards of a data set."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor, nn

from gradood._engine.forms import (
    INPUT_KEYS,
    LABEL_KEYS,
    InputForm,
    as_tensor,
    inputs_in,
    labels_in,
)
from gradood._engine.mistakes import (
    batch_hint,
    data_hint,
    labels_hint,
    used_up,
    views_hint,
)
from gradood._engine.rows import Inputs, row_count
from gradood._io.arguments import type_named
from gradood.errors import DataError
from gradood.taps import Arguments

__all__ = [
    "Batch",
    "Data",
    "INPUT_KEYS",
    "LABEL_KEYS",
    "LARGE",
    "Shard",
    "batches",
    "first_inputs",
    "inputs_in",
    "labels_in",
    "shards_of",
]

Data: TypeAlias = Tensor | np.ndarray | Arguments | Iterable[Any]
"""One batch, as a tensor, array or mapping, or an iterable of batches."""

LARGE = 2**28
"""Bytes of one tensor given as data beyond which it is no batch but a data set, and is split."""


@dataclass(frozen=True, eq=False, slots=True)
class Batch:
    """Inputs and, if there were any, labels.

    Attributes:
        inputs: a tensor (batch, …), or arguments.
        labels: (batch,) int64 classes, or (batch, classes) 0 or 1 under a sigmoid, or None.
    """

    inputs: Inputs
    labels: Tensor | None = None


@dataclass(frozen=True, eq=False, slots=True)
class Shard:
    """Some samples of a data set, in its order; what is read of it can be kept.

    Attributes:
        batches: a new pass over them.
        size: how many there are, or None if only a pass tells.
        labels: (size,) true classes, or None; where `size` is None, the batches bring their own.
        content: SHA-256 of what the samples are before preprocessing, or None if nobody knows.
    """

    batches: Callable[[], Iterator[Batch]]
    size: int | None = None
    labels: Tensor | None = None
    content: Callable[[], str | None] = lambda: None


def shards_of(
    data: Data | Sequence[Shard], *, labels: bool = False, form: InputForm | None = None
) -> list[Shard]:
    """Shards as they are; a user's own batches as one shard, of which nothing is kept.

    Args:
        data: shards, or what `batches` takes.
        labels: whether the labels in the batches are wanted.
        form: as for `batches`.
    """
    if isinstance(data, list | tuple) and data and all(isinstance(s, Shard) for s in data):
        return [shard for shard in data if isinstance(shard, Shard)]
    return [Shard(lambda: batches(data, labels=labels, form=form))]


def batches(data: Data, *, labels: bool = False, form: InputForm | None = None) -> Iterator[Batch]:
    """The batches in `data`.

    Args:
        data: a tensor is one batch, or several where it takes more than `LARGE` bytes; any other
            iterable yields batches: ``x``, ``(x, y)`` or a mapping with one of `INPUT_KEYS` and of
            `LABEL_KEYS`.
        labels: whether labels are wanted; if not, they are not even looked at.
        form: how batches of several tensors become the inputs of a model, of which a mapping may
            be a batch by itself; None where there are none such.

    Raises:
        DataError: an item is none of these, labels do not fit their inputs, or `data` is itself a
            pair (x, y), whose tensors would be read as two batches.
    """
    if isinstance(data, Tensor | np.ndarray):
        for piece in _pieces(data):
            yield _batch(piece, labels, form)
        return
    alone = isinstance(data, Batch | Arguments) or (form is not None and isinstance(data, Mapping))
    if alone:
        yield _batch(data, labels, form)
        return
    foreign = isinstance(data, str | bytes | Mapping | nn.Module | type)
    if foreign or hasattr(data, "to_numpy") or not isinstance(data, Iterable):
        raise DataError(
            f"data is {type_named(data)}; expected a tensor (one batch), or an iterable of batches "
            f"such as a DataLoader.{data_hint(data)}"
        )
    _refuse_pair(data)
    hint, empty = used_up(data), True
    for item in data:
        empty = False
        yield _batch(item, labels, form)
    if empty and hint:
        raise DataError(f"data gave no batch.{hint}")


def first_inputs(data: Data, form: InputForm | None = None) -> Inputs:
    """The inputs of the first batch; a pair (x, y) and a mapping are one batch here.

    Args:
        data: as for `batches`.
        form: likewise.

    Raises:
        DataError: there is none.
    """
    pair = isinstance(data, tuple) and len(data) == 2 and isinstance(data[0], Tensor | np.ndarray)
    items: Any = [data] if pair or isinstance(data, Mapping) else data
    first = next(iter(batches(items, form=form)), None)
    if first is None:
        raise DataError("no example was given; give a tensor of inputs as the model takes them.")
    return first.inputs


def _pieces(data: Tensor | np.ndarray) -> Iterator[Tensor | np.ndarray]:
    """A whole data set given as one tensor, in parts that a model can be run on."""
    sparse = isinstance(data, Tensor) and data.layout != torch.strided  # refused where it is run
    if data.ndim == 0 or sparse or data.nbytes <= LARGE:
        yield data
        return
    rows = max(1, LARGE * len(data) // data.nbytes)
    for start in range(0, len(data), rows):
        yield data[start : start + rows]


def _refuse_pair(data: Iterable[Any]) -> None:
    """What follows a tensor and can be no batch of the same model belongs to it, such as labels."""
    if not isinstance(data, tuple | list) or len(data) < 2:
        return
    x, *others = data
    if len(others) == 1 and _are_arguments(x) and _is_vector(others[0]):
        raise DataError(
            f"data is a pair of {_described(x)} and {_described(others[0])}, which would be read "
            "as 2 batches; expected a loader of batches. One batch of several inputs with its "
            "labels is [((a, b), y)], without labels [((a, b),)]."
        )
    if not isinstance(x, Tensor | np.ndarray) or x.ndim == 0:
        return
    odd = [other for other in others if not _may_follow(x, other)]
    if odd:
        what = "pair" if len(others) == 1 else type(data).__name__
        pair = " and ".join(map(_described, (x, odd[0])))
        raise DataError(
            f"data is a {what} of {pair}, which would be read as {len(data)} batches; expected a "
            "loader of batches. Labels belong to their batch: give [(x, y)], or x alone where none "
            "are needed."
        )


def _are_arguments(value: Any) -> bool:
    several = isinstance(value, tuple | list) and len(value) > 1
    return several and all(isinstance(part, Tensor | np.ndarray) for part in value)


def _is_vector(value: Any) -> bool:
    return isinstance(value, Tensor | np.ndarray) and value.ndim == 1


def _may_follow(x: Tensor | np.ndarray, other: Any) -> bool:
    """Whether it can be a batch of the same model."""
    if isinstance(other, Tensor | np.ndarray):
        # Batches of images may differ in size, but not in rank, channels or kind of number.
        alike = x.ndim == other.ndim and x.shape[1:2] == other.shape[1:2]
        return _floating(x) == _floating(other) and (alike or _may_be_tokens(x, other))
    if isinstance(other, tuple | list):
        return any(isinstance(part, Tensor | np.ndarray) and part.ndim > 0 for part in other)
    return isinstance(other, Mapping)


def _may_be_tokens(x: Tensor | np.ndarray, other: Tensor | np.ndarray) -> bool:
    """Whether these can be token ids of two lengths: whole numbers, and not one-hot labels."""
    whole = x.ndim == other.ndim == 2 and not _floating(other)
    return whole and (len(other) == 0 or int(other.max()) > 1)


def _described(value: Any) -> str:
    if isinstance(value, Tensor | np.ndarray):
        return f"{tuple(value.shape)} {value.dtype}"
    if isinstance(value, tuple | list | range):
        return f"a {type(value).__name__} of {len(value)}"
    return f"a {type(value).__name__}" if value is not None else "None"


def _floating(array: Tensor | np.ndarray) -> bool:
    return array.dtype.kind == "f" if isinstance(array, np.ndarray) else array.is_floating_point()


def _batch(item: Any, wanted: bool, form: InputForm | None) -> Batch:
    if isinstance(item, Batch):
        return item if wanted else Batch(item.inputs)
    if isinstance(item, Arguments):
        return Batch(item)
    link = "softmax" if form is None or form.link is None else form.link
    labels = labels_in(item) if wanted and link != "none" else None
    several = link == "sigmoid"
    inputs = None if form is None else form.inputs(item)
    if inputs is not None:
        size = row_count(inputs)
        return Batch(inputs, None if labels is None else _labels(labels, size, several))
    value = inputs_in(item)
    if value is None and isinstance(item, Mapping):
        raise DataError(f"a batch has keys {sorted(map(str, item))}; expected one of {INPUT_KEYS}.")
    x = as_tensor(value)
    if x is None or x.ndim == 0:
        more = "" if value is item else " with more beside it"
        raise DataError(
            f"a batch is {type_named(value)}{more}; expected one tensor x (batch, …), a pair "
            f"(x, y), or a mapping that holds x.{batch_hint(value)}"
        )
    views = (
        None if isinstance(item, Mapping) or link != "softmax" else views_hint(x, labels_in(item))
    )
    if views is not None:
        raise DataError(views)
    return Batch(x, None if labels is None else _labels(labels, row_count(x), several))


def _labels(value: Any, size: int, several: bool) -> Tensor:
    labels = _listed(value) if isinstance(value, list | tuple | int) else as_tensor(value)
    if several:
        return _each_class(labels, value, size)
    classes = None if labels is None else _classes(labels, size)
    if classes is None:
        what = type(value).__name__ if labels is None else f"{tuple(labels.shape)} {labels.dtype}"
        raise DataError(
            f"the labels of a batch of {size} are {what}; expected ({size},) whole numbers. "
            f"{labels_hint(value, size)}"
        )
    return classes


def _classes(labels: Tensor, size: int) -> Tensor | None:
    """Labels (batch,) int64; None if they are none.

    A column of them and whole numbers as floats are taken too: losses of one output want these.
    """
    if labels.shape == (size, 1):
        labels = labels[:, 0]
    if labels.shape != (size,) or labels.is_complex():
        return None
    whole = labels.to(torch.int64)
    exact = not labels.is_floating_point() or bool((whole == labels).all())
    return whole if exact else None


def _each_class(labels: Tensor | None, value: Any, size: int) -> Tensor:
    """Labels of which several may hold, (batch, classes) int64 of 0 and 1."""
    if labels is None or labels.ndim != 2 or len(labels) != size:
        what = type(value).__name__ if labels is None else f"{tuple(labels.shape)} {labels.dtype}"
        raise DataError(
            f"the labels of a batch of {size} are {what}; with link='sigmoid' expected ({size}, "
            "classes) of 0 and 1, which of the classes hold for each input."
        )
    if labels.is_complex() or not bool(((labels == 0) | (labels == 1)).all()):
        raise DataError(
            "the labels of a batch hold other values than 0 and 1; with link='sigmoid' expected "
            "which of the classes hold for each input: round what is certain, and leave out rows "
            "whose labels are unknown."
        )
    return labels.to(torch.int64)


def _listed(value: Any) -> Tensor | None:
    """Labels in a list, on the CPU whatever the default device is; None if they are no numbers."""
    try:
        return torch.as_tensor(value, device="cpu")
    except (TypeError, ValueError, RuntimeError):
        return None
