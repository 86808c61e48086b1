"""The forms of a user's batch: what in it are the model's inputs, and what are the labels.

This is the one place that says so, for a fit, a calibration, an evaluation, training and the
command line alike. See docs/inputs.md and ADR 0042.
"""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor, nn

from gradood.errors import ConfigError, DataError, GradoodError
from gradood.taps import Arguments, Inputs, Link, unwrap

__all__ = [
    "INPUT_KEYS",
    "InputForm",
    "LABEL_KEYS",
    "ModelInput",
    "as_tensor",
    "check_model_input",
    "inputs_in",
    "labels_in",
]

INPUT_KEYS = (
    *("pixel_values", "image", "x", "img", "images", "imgs", "inputs", "input"),
    *("jpg", "jpeg", "png", "webp"),  # WebDataset's, by the end of the file's name.
)
"""Where a mapping or a Parquet file holds inputs: the first of these names that it has."""
LABEL_KEYS = (
    *("labels", "label", "y", "target", "targets", "fine_label", "fine_labels"),
    *("cls", "class", "class_id", "class_label"),
)
"""Where it holds labels, likewise; in a fit, a benchmark, training and files alike. The table of
docs/inputs.md is held to these two."""

ModelInput: TypeAlias = Callable[[Any], Any]
"""From a batch without its labels to what the model takes: a tensor, a tuple of positional
arguments, or a mapping of keyword arguments."""


def inputs_in(item: Any) -> Any:
    """What stands for the inputs in ``x``, ``(x, y)`` or a mapping; None if a mapping has none."""
    if isinstance(item, Mapping):
        return next((item[key] for key in INPUT_KEYS if key in item), None)
    return item[0] if isinstance(item, tuple | list) and item else item


def labels_in(item: Any) -> Any:
    """What stands for the labels in ``(x, y)`` or a mapping; None if there are none."""
    if isinstance(item, Mapping):
        return next((item[key] for key in LABEL_KEYS if key in item), None)
    if isinstance(item, tuple | list) and len(item) > 1 and not _of_texts(item):
        return item[1]
    return None


def _of_texts(item: Sequence[Any]) -> bool:
    """Whether a batch is a list of texts, and no pair: what `model_input` is to tokenize."""
    return all(isinstance(part, str) for part in item)


def as_tensor(value: Any) -> Tensor | None:
    """A tensor or an array of numbers as a tensor; None of anything else."""
    if isinstance(value, np.ndarray) and value.dtype.kind in "fiub" and value.itemsize <= 8:
        if not value.dtype.isnative:
            value = value.astype(value.dtype.newbyteorder("="))
        # torch takes no negative strides, and warns about arrays it may not write to, such as
        # read-only memory maps.
        plain = value.flags.writeable and min(value.strides, default=0) >= 0
        return torch.from_numpy(value if plain else value.copy())
    return value if isinstance(value, Tensor) else None


def check_model_input(model_input: object) -> None:
    """Refuse what cannot make a model's inputs.

    Raises:
        ConfigError: it is no function.
    """
    if model_input is not None and (not callable(model_input) or isinstance(model_input, type)):
        raise ConfigError(
            f"model_input={model_input!r}; expected a function from a batch without its labels to "
            "what the model takes: a tensor, a tuple of positional arguments, or a mapping of "
            "keyword arguments."
        )


@dataclass(frozen=True, eq=False)
class InputForm:
    """How the batches of a model become its inputs.

    Attributes:
        model: any classifier; its signature says which entries of a mapping are arguments.
        model_input: makes the inputs of a batch; None for the rules.
        link: what labels are: under a softmax one class of each row, under a sigmoid 0 or 1 of
            each class, and otherwise nothing that is looked at; None for a softmax.
    """

    model: nn.Module
    model_input: ModelInput | None = None
    link: Link | None = None

    def inputs(self, item: Any) -> Inputs | None:
        """The inputs of a batch that come as several tensors; None for a single one.

        Args:
            item: a batch, with its labels.

        Raises:
            DataError: a tensor in it has not the batch first, or `model_input` raised.
        """
        value = item
        if isinstance(item, tuple | list) and item and not _of_texts(item):
            value = item[0]
        if self.model_input is not None:
            return self._made(value)
        if isinstance(value, Mapping):
            return self._of_mapping(value)
        if isinstance(value, tuple | list) and value:
            return self._of_tuple(value)
        return None

    @cached_property
    def _parameters(self) -> tuple[tuple[str, ...], tuple[str, ...], bool, bool]:
        """Names given by place, names given by keyword, and whether any others may be."""
        try:
            known = inspect.signature(unwrap(self.model).forward).parameters.values()
        except (TypeError, ValueError):  # none that Python can tell
            return (), (), True, True
        placed = tuple(p.name for p in known if p.kind in (p.POSITIONAL_ONLY, _EITHER))
        named = tuple(p.name for p in known if p.kind in (p.KEYWORD_ONLY, _EITHER))
        kinds = {p.kind for p in known}
        return placed, named, _ANY_PLACED in kinds, _ANY_NAMED in kinds

    def _made(self, value: Any) -> Inputs:
        assert self.model_input is not None
        if isinstance(value, Mapping):
            value = {k: v for k, v in value.items() if k not in LABEL_KEYS}
        try:
            made = self.model_input(value)
        except (GradoodError, MemoryError):
            raise
        except Exception as error:
            raise DataError(
                f"the function model_input= raised {type(error).__name__} ({error}) on a batch "
                f"that is a {type(value).__name__}; give one that makes the model's inputs of it."
            ) from error
        tensor = as_tensor(made)
        if tensor is not None and tensor.ndim:
            return tensor
        if isinstance(made, Mapping):
            return _checked(Arguments(named=_converted(dict(made))))
        if isinstance(made, tuple | list):
            return _checked(Arguments(tuple(_converted(list(made))), names=self._parameters[0]))
        raise DataError(
            f"the function model_input= gave a {type(made).__name__}; expected a tensor (batch, "
            "…), a tuple of positional arguments, or a mapping of keyword arguments."
        )

    def _of_mapping(self, value: Mapping[Any, Any]) -> Inputs | None:
        """Entries that the model's forward takes by name; as it was before, where it takes one."""
        _, named, _, open_ended = self._parameters
        entries = {str(key): part for key, part in value.items() if key not in LABEL_KEYS}
        chosen = {key: part for key, part in entries.items() if key in named}
        single = next((key for key in INPUT_KEYS if key in entries), None)
        if single is not None and not chosen.keys() - {single}:
            return as_tensor(entries[single])
        if not chosen and open_ended:
            chosen = entries
        if not chosen:
            return None
        first = () if single is None or single in chosen else (entries[single],)
        return _checked(Arguments(tuple(_converted(list(first))), _converted(chosen)))

    def _of_tuple(self, value: tuple[Any, ...] | list[Any]) -> Inputs | None:
        """Positional arguments; None for what are no several arguments of the model."""
        placed, _, open_ended, _ = self._parameters
        if not any(as_tensor(part) is not None for part in value):
            return None
        if len(value) == 1:
            return as_tensor(value[0])
        if len(value) > len(placed) and not open_ended:
            return None
        return _checked(Arguments(tuple(_converted(list(value))), names=placed))


_EITHER = inspect.Parameter.POSITIONAL_OR_KEYWORD
_ANY_PLACED, _ANY_NAMED = inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD


def _converted(value: Any) -> Any:
    """A tree with tensors in place of arrays; constants are the same objects."""
    tensor = as_tensor(value)
    if tensor is not None:
        return tensor
    if isinstance(value, Mapping):
        return {key: _converted(part) for key, part in value.items()}
    if isinstance(value, tuple | list) and not hasattr(value, "_fields"):
        parts = [_converted(part) for part in value]
        same = all(new is old for new, old in zip(parts, value, strict=True))
        return value if same else type(value)(parts)
    return value


def _checked(arguments: Arguments) -> Arguments:
    """The arguments, if each tensor has the batch first.

    Raises:
        DataError: says which has not.
    """
    leaves = arguments.leaves
    if not leaves:
        held = ", ".join(arguments.constants) or "nothing"
        lists = any(isinstance(value, list) for value in arguments.constants.values())
        hint = " A tokenizer gives them with return_tensors='pt'." if lists else ""
        raise DataError(
            f"a batch holds no tensor, only {held}; expected tensors with the batch first. Make "
            f"them of it with model_input=, a function from a batch to what the model takes.{hint}"
        )
    shapes = {name: tuple(leaf.shape) for name, leaf in leaves.items()}
    sizes = [shape[0] for shape in shapes.values() if shape]
    size = max(sizes, key=sizes.count) if sizes else 0
    odd = [name for name, shape in shapes.items() if not shape or shape[0] != size]
    if odd:
        others = ", ".join(f"{name} {shape}" for name, shape in shapes.items() if name not in odd)
        raise DataError(
            f"{odd[0]} {shapes[odd[0]]} of a batch has not the batch of {size} first, as the "
            f"others have{f': {others}' if others else ''}. Every tensor has; give what is the "
            "same for all rows as a number or a list, or make the arguments with model_input=."
        )
    return arguments
