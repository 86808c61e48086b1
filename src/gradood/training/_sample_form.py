"""From items of a data set to the inputs and labels of a training batch."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.utils.data import default_collate

from gradood._engine.batches import LABEL_KEYS, labels_in
from gradood._engine.forms import InputForm, ModelInput
from gradood.errors import DataError
from gradood.taps import Inputs
from gradood.training._inputs import batched, is_finite, sample_of
from gradood.training._outputs import Outputs

__all__ = ["Label", "SampleForm", "label_of", "labels_of_row"]

Label: TypeAlias = int | Tensor
"""A class; or (classes,) float 0 or 1 of each label, where several may hold."""


@dataclass(frozen=True, eq=False, slots=True)
class SampleForm:
    """How items of a data set become inputs and labels.

    Attributes:
        outputs: whose link says what labels are.
        model_input: makes the inputs of a batch of items, or None for the rules of `sample_of`.
        black: value per channel of a black pixel, for the padding of random crops; None for 0.
    """

    outputs: Outputs = field(default_factory=Outputs)
    model_input: ModelInput | None = None
    black: Tensor | None = None

    def sample(self, item: Any) -> Any:
        """What an item holds beside its label.

        Raises:
            DataError: there is no input.
        """
        if self.model_input is None:
            return sample_of(item)
        found = item[0] if isinstance(item, tuple | list) and item else item
        if isinstance(found, Mapping):
            return {key: part for key, part in found.items() if key not in LABEL_KEYS}
        return found

    def finite(self, sample: Any) -> bool:
        """Whether no number in a sample is NaN or infinite."""
        if isinstance(sample, Mapping):
            return all(map(self.finite, sample.values()))
        if isinstance(sample, tuple | list):
            return all(map(self.finite, sample))
        return not isinstance(sample, Tensor) or is_finite(sample)

    def label(self, item: Any) -> Label:
        """The label in an item.

        Raises:
            DataError: there is none, or it is none of this link.
        """
        return label_of(item) if self.outputs.link == "softmax" else labels_of_row(item)

    def collated(self, samples: Sequence[Any], dataset: Any) -> Any:
        """Samples as one batch, before `inputs`.

        Raises:
            DataError: they do not fit in one.
        """
        if self.model_input is None:
            return batched(samples, dataset)
        try:
            return default_collate(list(samples))
        except (RuntimeError, TypeError) as error:
            raise DataError(
                f"samples cannot be put together in a batch for model_input= ({error}); expected "
                "tensors of one shape, numbers or texts. Pad them in the data set."
            ) from error

    def inputs(self, batch: Any) -> Inputs:
        """What the model takes for a batch, as `collated` made it.

        Raises:
            DataError: the function model_input= fails on it.
        """
        if self.model_input is None:
            return batch
        made = InputForm(nn.Identity(), self.model_input).inputs((batch,))
        assert made is not None
        return made

    def stacked(self, labels: Sequence[Label]) -> Tensor:
        """Labels as one tensor.

        Raises:
            DataError: some are of more classes than others.
        """
        rows = [label for label in labels if isinstance(label, Tensor)]
        if not rows:
            return torch.tensor(labels, dtype=torch.int64)
        widths = sorted({len(row) for row in rows})
        if len(widths) > 1:
            raise DataError(f"labels of {widths} classes in one batch; expected as many in each.")
        return torch.stack(rows)


def label_of(item: Any) -> int:
    """The class in an item of a data set.

    Raises:
        DataError: there is none, or it is no whole number.
    """
    value = labels_in(item)
    try:
        label = int(value)
        whole = label == float(value) and label >= 0
    except (TypeError, ValueError):
        whole, label = False, -1
    if not whole:
        raise DataError(
            f"the label of an in-distribution sample is {value!r}; expected a whole number ≥ 0. "
            "Training needs labels: give pairs (image, label)."
        )
    return label


def labels_of_row(item: Any) -> Tensor:
    """Labels (classes,) of 0 and 1 in an item of a data set, as floats.

    Raises:
        DataError: there are none, or other values.
    """
    value = labels_in(item)
    try:
        row = torch.as_tensor(value, dtype=torch.float32)
    except (TypeError, ValueError, RuntimeError):
        row = torch.zeros(())
    if row.ndim != 1 or not len(row) or not bool(((row == 0) | (row == 1)).all()):
        raise DataError(
            f"the label of an in-distribution sample is {value!r}; with link='sigmoid' expected 0 "
            "or 1 for each class, such as [1, 0, 1]."
        )
    return row
