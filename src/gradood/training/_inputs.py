"""Inputs of training samples: one tensor, or several by the names of the model's arguments."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor

from gradood._engine.batches import LABEL_KEYS, inputs_in
from gradood.data import ColumnInput
from gradood.data._padding import padded, stacked
from gradood.errors import ConfigError, DataError
from gradood.taps import Arguments, Inputs

__all__ = [
    "Sample",
    "batched",
    "concatenated",
    "described",
    "fills_of",
    "is_finite",
    "mean_of",
    "on_device",
    "sample_of",
    "single",
    "size_of",
]

Sample: TypeAlias = Tensor | dict[str, Tensor]
"""The inputs of one sample, without a batch dimension."""
_LENGTH_RANK = 2


def sample_of(item: Any) -> Sample:
    """The inputs in an item of a data set.

    A pair is (inputs, label). Of a mapping, one of the names of single inputs is meant
    (`gradood._engine.batches.INPUT_KEYS`); where there is none, every tensor that is no label.

    Raises:
        DataError: there is none.
    """
    found = item[0] if isinstance(item, tuple | list) and item else item
    if isinstance(found, Mapping):
        single = inputs_in(found)
        if isinstance(single, Tensor):
            return single
        named = {k: v for k, v in found.items() if k not in LABEL_KEYS and isinstance(v, Tensor)}
        if named and single is None and any(v.ndim for v in named.values()):
            return named
        found = single
    if not isinstance(found, Tensor):
        raise DataError(
            f"an item of the data is a {type(item).__name__} without an image tensor; expected a "
            "tensor, a pair (image, label), or a mapping with 'image' and 'label'."
        )
    return found


def batched(samples: Sequence[Sample], dataset: Any) -> Inputs:
    """Samples as one batch, padded as the data set's inputs are.

    Args:
        samples: of one data set.
        dataset: theirs.

    Raises:
        DataError: they differ in shape.
    """
    fills = fills_of(dataset)
    if isinstance(samples[0], dict):
        made = stacked(samples) if fills is None else padded(samples, fills)
        return Arguments(named=made)
    if fills is not None:
        return padded(samples, fills)
    shapes = sorted({tuple(x.shape) for x in samples if isinstance(x, Tensor)})
    if len(shapes) > 1:
        raise DataError(
            f"images of one batch differ in size: {', '.join(map(str, shapes[:3]))}; expected "
            "one. Set Preprocess(resize=…, crop=…)."
        )
    return torch.stack([x for x in samples if isinstance(x, Tensor)])


def fills_of(dataset: Any) -> Mapping[str, float] | None:
    """What rows of a data set are padded with, by name; None where they are not padded."""
    parts = getattr(dataset, "datasets", None)
    inner = parts[0] if parts else getattr(dataset, "dataset", None)
    if inner is not None:
        return fills_of(inner)
    inputs = getattr(dataset, "preprocess", None)
    return inputs.fills if isinstance(inputs, ColumnInput) else None


def concatenated(parts: Sequence[Inputs], fills: Mapping[str, float] | None) -> Inputs:
    """Batches one after another; those of several lengths are padded to the longest.

    Args:
        parts: of the same arguments.
        fills: what they are padded with, by name.

    Raises:
        DataError: they differ in shape.
    """
    if fills is None and isinstance(parts[0], Tensor):
        return torch.cat([part for part in parts if isinstance(part, Tensor)])
    leaves = [part.leaves if isinstance(part, Arguments) else {"": part} for part in parts]
    made = {
        name: _joined([own[name] for own in leaves], (fills or {}).get(name)) for name in leaves[0]
    }
    return made[""] if isinstance(parts[0], Tensor) else parts[0].replaced(made)


def on_device(inputs: Inputs, device: torch.device) -> Inputs:
    """Inputs on a device."""
    if isinstance(inputs, Arguments):
        return inputs.each(lambda leaf: leaf.to(device, non_blocking=True))
    return inputs.to(device, non_blocking=True)


def single(inputs: Inputs) -> Tensor:
    """The one tensor that the inputs are.

    Raises:
        ConfigError: they are several.
    """
    if isinstance(inputs, Arguments):
        raise ConfigError(
            "mixing adds inputs up, and these are several tensors, such as token ids and a mask; "
            "expected one tensor of numbers. Choose oe, energy or greg."
        )
    return inputs


def is_finite(sample: Sample) -> bool:
    """Whether no value is NaN or infinite."""
    return all(bool(leaf.isfinite().all()) for leaf in _leaves(sample))


def size_of(sample: Sample) -> int:
    """Bytes."""
    return sum(leaf.nbytes for leaf in _leaves(sample))


def mean_of(sample: Sample) -> float:
    """Mean over all values, each tensor by itself and these added up."""
    return math.fsum(float(leaf.double().mean()) for leaf in _leaves(sample))


def described(sample: Sample) -> str:
    """Shape and type; of several tensors the names and types, as their lengths may vary."""
    if isinstance(sample, Tensor):
        return f"{tuple(sample.shape)} {sample.dtype}"
    return ", ".join(f"{name} {leaf.dtype}" for name, leaf in sample.items())


def _leaves(sample: Sample) -> list[Tensor]:
    return list(sample.values()) if isinstance(sample, dict) else [sample]


def _joined(leaves: Sequence[Tensor], fill: float | None) -> Tensor:
    lengths = {leaf.shape[1] for leaf in leaves if leaf.ndim >= _LENGTH_RANK}
    if fill is None or len(lengths) < 2:
        return torch.cat(list(leaves))
    longest = max(lengths)
    whole = []
    for leaf in leaves:
        wide = leaf.new_full((len(leaf), longest, *leaf.shape[2:]), fill)
        wide[:, : leaf.shape[1]] = leaf
        whole.append(wide)
    return torch.cat(whole)
