"""Groups of classes whose samples are compared with one another (Mondrian calibration).

Rare classes share a group. Comparing an input with its group is exact:

- *p-values, and marginal decisions.* The groups are formed from class counts in which the input
  is counted too. So they do not change when the input changes places with any calibration
  sample, and given the groups it is as likely to be the j-th of its group as any other. (Groups
  formed from the calibration counts alone would not do: that a class came out rare says
  that the calibration part of its group holds less of it than the inputs to come.)
- *PAC decisions.* Given the predicted classes, scores are independent, and nothing has looked
  at them. For a class on its own that is the usual case. For a merged group the promise is on
  its false-alarm rate with the classes in the shares they have in the calibration data:
  exceedances are then a sum of independent unequal events, whose lower tail is at most
  binomial (Hoeffding 1956). It holds for each group by itself, not for all at once.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gradood.calibration.guarantee import Promise, deciding_rank, required

__all__ = ["Group", "Groups", "Vector"]

Vector = np.ndarray[Any, np.dtype[Any]]
"""(N,) in NumPy."""


@dataclass(frozen=True, eq=False)
class Group:
    """Calibration samples that stand for the same kind of input.

    Attributes:
        scores: (n,) float64, ascending; the last may be +inf.
        classes: (k,) int64, the predicted classes they are of.
        rank: the threshold is the rank-th largest; see `deciding_rank`.
    """

    scores: Tensor
    classes: Tensor
    rank: int

    @property
    def threshold(self) -> float:
        """An input is flagged if its score is above, by more than the tolerance."""
        return float(self.scores[len(self.scores) - self.rank])

    def not_below(self, values: Vector, kind: torch.dtype, tolerance: float) -> Vector:
        """How many samples are not below each value, by more than the tolerance, (N,) int64.

        In NumPy, whose calls take a tenth of torch's where there are few values.

        Args:
            values: (N,) float64 without NaN.
            kind: dtype that the samples are rounded to.
            tolerance: 0 or more.
        """
        ordered = self._rounded.get(kind)
        if ordered is None:
            ordered = self._rounded[kind] = self.scores.to(kind).double().numpy()
        above = len(ordered) - ordered.searchsorted(values - tolerance)
        # Rounded to a coarser type, a finite score may be infinite; it is below +inf even so.
        above[values == np.inf] = self._infinite
        return above

    @cached_property
    def _rounded(self) -> dict[torch.dtype, Vector]:
        """The scores by the dtype that they were rounded to."""
        return {}

    @cached_property
    def _infinite(self) -> int:
        return int(self.scores.isinf().sum())


@dataclass(frozen=True, eq=False, slots=True)
class Groups:
    """Which calibration samples an input is compared with, by its predicted class.

    Attributes:
        classes: (k,) int64, ascending: the classes that calibration samples have.
        members: the distinct groups.
        of: (k + 1,) int64: the group of each class, and last that of all classes never seen.
    """

    classes: Tensor
    members: tuple[Group, ...]
    of: Tensor

    @staticmethod
    def single(scores: Tensor, promise: Promise) -> "Groups":
        """Everything in one group; `scores` ascending."""
        none = torch.empty(0, dtype=torch.int64)
        group = Group(scores, none, deciding_rank(len(scores), promise))
        return Groups(none, (group,), torch.zeros(1, dtype=torch.int64))

    @staticmethod
    def for_ranking(scores: Tensor, predicted: Tensor, promise: Promise) -> "Groups":
        """The groups for p-values: formed with the input counted among the samples of its class.

        Args:
            scores: (n,) float64, ascending.
            predicted: (n,) int64, the class of each.
            promise: how many samples a group needs.
        """
        classes, counts = np.unique(predicted.numpy(), return_counts=True)
        need, masks = required(promise), []
        for place in range(len(classes) + 1):
            # The input is one more of its class, or the only one of a class never seen.
            with_it = np.append(counts, 0)
            with_it[place] += 1
            rest = _rest(with_it, need + 1)
            masks.append(rest if rest[place] else np.arange(len(with_it)) == place)
        return _groups(scores, predicted, promise, classes, masks)

    @staticmethod
    def for_threshold(scores: Tensor, predicted: Tensor, promise: Promise) -> "Groups":
        """The groups for thresholds that hold with confidence: a partition of the classes.

        Args:
            scores: (n,) float64, ascending.
            predicted: (n,) int64, the class of each.
            promise: how many samples a group needs.
        """
        classes, counts = np.unique(predicted.numpy(), return_counts=True)
        rest = _rest(np.append(counts, 0), required(promise))
        alone = [np.arange(len(rest)) == place for place in range(len(rest))]
        masks = [rest if rest[place] else alone[place] for place in range(len(rest))]
        return _groups(scores, predicted, promise, classes, masks)

    def rows(self, predicted: Tensor) -> Tensor:
        """The group of each row: (N,) int64 for (N,) predicted classes."""
        at = torch.searchsorted(self.classes, predicted)
        known = torch.zeros(len(predicted), dtype=torch.bool)
        if len(self.classes):
            known = self.classes[at.clamp(max=len(self.classes) - 1)] == predicted
        return self.of[torch.where(known, at, len(self.classes))]

    def own(self, predicted: Tensor) -> Tensor:
        """Whether the group of each row is that of its class alone: (N,) bool."""
        single = [int(g.classes[0]) if len(g.classes) == 1 else None for g in self.members]
        rows = self.rows(predicted)
        owner = torch.tensor([-1 if c is None else c for c in single], device="cpu")[rows]
        alone = torch.tensor([c is not None for c in single], device="cpu")[rows]
        return alone & (owner == predicted)


def _rest(counts: np.ndarray, need: int) -> np.ndarray:
    """The classes that share a group, as a mask: the rare ones, and one more if they are too few.

    A function of the counts alone. Classes that are not rare have `need` samples, so that adding
    the smallest of them is always enough. The last place is that of classes never seen.
    """
    rest = counts < need
    rest[-1] = True
    if counts[rest].sum() < need and not rest.all():
        rest[np.where(rest, counts.sum() + 1, counts).argmin()] = True
    return rest


def _groups(
    scores: Tensor,
    predicted: Tensor,
    promise: Promise,
    classes: np.ndarray,
    masks: Sequence[np.ndarray],
) -> Groups:
    """The distinct groups among those that each class asks for."""
    at = np.searchsorted(classes, predicted.numpy())
    places: dict[bytes, int] = {}
    members: list[Group] = []
    for mask in masks:
        if mask[:-1].tobytes() in places:
            continue
        places[mask[:-1].tobytes()] = len(members)
        ordered = scores[torch.from_numpy(mask[at])]
        rank = deciding_rank(len(ordered), promise)
        if promise.mode == "pac" and mask[:-1].sum() > 1:
            # What Hoeffding's inequality for samples that are not alike asks for.
            rank = min(rank, max(1, int(len(ordered) * promise.fpr)))
        members.append(Group(ordered, torch.from_numpy(classes[mask[:-1]]), rank))
    of = torch.tensor([places[mask[:-1].tobytes()] for mask in masks])
    return Groups(torch.from_numpy(classes), tuple(members), of)
