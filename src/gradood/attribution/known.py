"""Known samples in feature space, with which a sample that is explained is compared."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import Any

import torch
from torch import Tensor

from gradood.errors import DataError

__all__ = ["Id", "Ids", "KnownFeatures", "Neighbor", "Typicality", "named"]

Id = str | int
Ids = Sequence[Id | os.PathLike[str]]
"""What samples are called; also a tensor, an array or a column of such."""
_ROWS = 8192
"""Known samples whose distances are computed at once."""


@dataclass(frozen=True, slots=True)
class Neighbor:
    """A known sample near one that is explained.

    Attributes:
        id: as it was given.
        distance: Euclidean, between the features.
        label: the class that the model predicted for it.
    """

    id: Id
    distance: float
    label: int


@dataclass(frozen=True, slots=True)
class Typicality:
    """How far a sample lies from the mean feature of the class it was taken for.

    Attributes:
        label: the class.
        distance: Euclidean, to the mean of the known samples taken for it.
        share: of these samples, that lie as far or farther.
        samples: how many there are.
    """

    label: int
    distance: float
    share: float
    samples: int


@dataclass(frozen=True, eq=False, slots=True)
class KnownFeatures:
    """Means of known features, and how far samples lie from those of their predicted classes.

    Attributes:
        mean: (width,) float64 of all samples: the default reference of contributions.
        class_means: (classes, width) float64 of the samples predicted to be of each; zero of none.
        label: (n,) int64 predicted classes.
        distance: (n,) float64, of each sample to the mean of its class.
        ids: of the samples, or None where they were not asked for.
        features: (n, width) float32, likewise.
    """

    mean: Tensor
    class_means: Tensor
    label: Tensor
    distance: Tensor
    ids: tuple[Id, ...] | None = None
    features: Tensor | None = None

    @staticmethod
    def of(
        features: Tensor, label: Tensor, classes: int, ids: Ids | None = None
    ) -> "KnownFeatures":
        """From the features of known samples.

        Args:
            features: (n, width), finite.
            label: (n,) predicted classes.
            classes: how many there are.
            ids: of each sample, in the same order, as they are to be named; then the features are
                kept too, 4 · width bytes of each.

        Raises:
            DataError: there is no sample, or another number of ids.
        """
        wide = features.double().cpu()
        label = label.cpu()
        if len(wide) == 0:
            raise DataError("no known sample was given to compare with; give some.")
        names = None if ids is None else named(ids)
        if names is not None and len(names) != len(wide):
            raise DataError(
                f"ids= has {len(names)} entries for {len(wide)} known samples; give one for each, "
                "in their order, such as their paths."
            )
        count = torch.bincount(label, minlength=classes)
        sums = wide.new_zeros(classes, wide.shape[1]).index_add(0, label, wide)
        means = sums / count.clamp_min(1)[:, None]
        distance = torch.linalg.vector_norm(wide - means[label], dim=1)
        kept = None if ids is None else features.float().cpu().clone()
        return KnownFeatures(wide.mean(0), means, label, distance, names, kept)

    def __len__(self) -> int:
        return len(self.label)

    def __repr__(self) -> str:
        named = "with ids" if self.ids is not None else "without ids"
        return f"KnownFeatures({len(self):,} samples, {len(self.mean)} units, {named})"

    def references(self, label: Tensor) -> Tensor:
        """(N, width) float64 mean of the known samples taken for the class of each sample.

        Where none was, the mean of all.

        Args:
            label: (N,) predicted classes; −1 for none.
        """
        label = label.cpu()
        count = torch.bincount(self.label, minlength=len(self.class_means))
        there = (label >= 0) & (count[label.clamp_min(0)] > 0)
        return torch.where(there[:, None], self.class_means[label.clamp_min(0)], self.mean)

    def typicality(self, feature: Tensor, label: int) -> Typicality | None:
        """Of a sample in the class it was taken for; None where no known sample was.

        Args:
            feature: (width,).
            label: the class.
        """
        own = self.distance[self.label == label]
        if not 0 <= label < len(self.class_means) or len(own) == 0:
            return None
        distance = torch.linalg.vector_norm(feature.double().cpu() - self.class_means[label])
        share = float((own >= distance).double().mean())
        return Typicality(label, float(distance), share, len(own))

    def nearest(self, features: Tensor, count: int) -> list[tuple[Neighbor, ...]] | None:
        """The nearest known samples of each, the nearest first; None without ids.

        Of equally near ones those that came first.

        Args:
            features: (N, width).
            count: how many.
        """
        if self.features is None or self.ids is None:
            return None
        wide = features.double().cpu()
        best, places = wide.new_zeros(len(wide), 0), torch.zeros(len(wide), 0, dtype=torch.int64)
        for start in range(0, len(self.features), _ROWS):
            some = self.features[start : start + _ROWS].double()
            exact = "donot_use_mm_for_euclid_dist"
            away = torch.cat([best, torch.cdist(wide, some, compute_mode=exact)], 1)
            of = torch.arange(start, start + len(some)).expand(len(wide), -1)
            best, order = away.sort(dim=1, stable=True)
            places = torch.cat([places, of], 1).gather(1, order)[:, :count]
            best = best[:, :count]
        found = zip(best.tolist(), places.tolist(), strict=True)
        return [
            tuple(
                Neighbor(self.ids[place], distance, int(self.label[place]))
                for distance, place in zip(*pair, strict=True)
            )
            for pair in found
        ]


def named(ids: Any) -> tuple[Id, ...]:
    """Texts and whole numbers of what was given to name samples; paths as texts.

    Raises:
        DataError: it has no order, or holds something else.
    """
    given = ids.tolist() if hasattr(ids, "tolist") else ids
    if isinstance(given, str | bytes) or not isinstance(given, Sequence):
        raise DataError(
            f"ids= is of type {type(ids).__name__}; give a list with one text or number for each "
            "known sample, in their order, such as their paths."
        )
    found: list[Id] = []
    for one in given:
        name = os.fspath(one) if isinstance(one, os.PathLike) else one
        if isinstance(name, bool) or not isinstance(name, str | Integral):
            raise DataError(f"ids= holds {one!r}; expected texts, whole numbers or paths.")
        found.append(name if isinstance(name, str) else int(name))
    return tuple(found)
