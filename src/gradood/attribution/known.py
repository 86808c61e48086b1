"""Known samples in feature space, with which a sample that is explained is compared."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from gradood.errors import DataError

__all__ = ["KnownFeatures", "Neighbor", "Typicality"]

Id = str | int


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
        features: Tensor, label: Tensor, classes: int, ids: Sequence[Id] | None = None
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
        if ids is not None and (isinstance(ids, str) or len(ids) != len(wide)):
            raise DataError(
                f"ids= has {len(ids)} entries for {len(wide)} known samples; give one for each, in "
                "their order, such as their paths."
            )
        if ids is not None and not all(isinstance(given, Hashable) for given in ids):
            raise DataError("ids= holds something that is no name; expected texts or numbers.")
        count = torch.bincount(label, minlength=classes)
        sums = wide.new_zeros(classes, wide.shape[1]).index_add(0, label, wide)
        means = sums / count.clamp_min(1)[:, None]
        distance = torch.linalg.vector_norm(wide - means[label], dim=1)
        kept = None if ids is None else features.float().cpu().clone()
        named = None if ids is None else tuple(ids)
        return KnownFeatures(wide.mean(0), means, label, distance, named, kept)

    def __len__(self) -> int:
        return len(self.label)

    def __repr__(self) -> str:
        named = "with ids" if self.ids is not None else "without ids"
        return f"KnownFeatures({len(self):,} samples, {len(self.mean)} units, {named})"

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

    def nearest(self, feature: Tensor, count: int) -> tuple[Neighbor, ...] | None:
        """The nearest known samples, the nearest first; None without ids.

        Args:
            feature: (width,).
            count: how many.
        """
        if self.features is None or self.ids is None:
            return None
        away = torch.linalg.vector_norm(self.features.double() - feature.double().cpu(), dim=1)
        places = away.sort(stable=True).indices[:count].tolist()
        return tuple(
            Neighbor(self.ids[place], float(away[place]), int(self.label[place]))
            for place in places
        )
