"""Class-wise means and pooled scatter, as mergeable state in float64."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from gradood.functional._tensor_shapes import checked

__all__ = ["ClassMoments", "Extremes"]


@dataclass(frozen=True, eq=False, slots=True)
class ClassMoments:
    """Counts, means and, if kept, the scatter about the class means, summed over classes.

    Merging follows Chan, Golub and LeVeque, which never subtracts large sums.

    Attributes:
        count: (classes,) int64.
        mean: (classes, width) float64; zero where the count is.
        scatter: (width, width) float64, or None.
    """

    count: Tensor
    mean: Tensor
    scatter: Tensor | None

    @staticmethod
    def of(
        features: Float[Tensor, "batch width"],
        labels: Int[Tensor, " batch"],
        classes: int,
        *,
        scatter: bool = False,
    ) -> "ClassMoments":
        """The moments of one batch."""
        values = features.double()
        count = torch.bincount(labels, minlength=classes)
        total = values.new_zeros(classes, values.shape[1]).index_add_(0, labels, values)
        mean = total / count.clamp_min(1)[:, None]
        centered = values - mean[labels]
        return ClassMoments(count, mean, centered.T @ centered if scatter else None)

    @staticmethod
    def together(
        features: Float[Tensor, "batch width"], *, scatter: bool = False
    ) -> "ClassMoments":
        """The moments of one batch as a single class, for what needs no labels."""
        labels = torch.zeros(len(features), dtype=torch.int64, device=features.device)
        return ClassMoments.of(features, labels, 1, scatter=scatter)

    def merge(self, other: "ClassMoments") -> "ClassMoments":
        """The moments of both sets of samples."""
        count = self.count + other.count
        # Integers divide into the default type, which is float32.
        share = other.count.double() / count.clamp_min(1)
        shift = other.mean - self.mean
        mean = torch.where(
            (self.count == 0)[:, None], other.mean, self.mean + shift * share[:, None]
        )
        scatter = None
        if self.scatter is not None and other.scatter is not None:
            weighted = shift * (self.count * share)[:, None]
            scatter = self.scatter + other.scatter + weighted.T @ shift
        return ClassMoments(count, mean, scatter)

    def tensors(self) -> dict[str, Tensor]:
        """Every tensor of this state, by name."""
        named = {"count": self.count, "mean": self.mean}
        return named if self.scatter is None else {**named, "scatter": self.scatter}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor]) -> "ClassMoments":
        """What `tensors` gave.

        Raises:
            DataError: they are others.
        """
        shapes = ("count: int classes", "mean: float64 classes width")
        checked("moments", tensors, *shapes, "scatter?: float64 width width")
        return cls(tensors["count"], tensors["mean"], tensors.get("scatter"))

    @property
    def overall_mean(self) -> Tensor:
        """(width,) mean over all samples."""
        share = self.count.double() / self.count.sum().clamp_min(1)
        return share @ self.mean

    @property
    def overall_scatter(self) -> Tensor:
        """(width, width) scatter about the mean over all samples: within classes, and between."""
        assert self.scatter is not None
        shift = self.mean - self.overall_mean
        return self.scatter + (shift * self.count[:, None]).T @ shift


@dataclass(frozen=True, eq=False, slots=True)
class Extremes:
    """Smallest and largest value per channel.

    Attributes:
        low: (channels,).
        high: (channels,).
    """

    low: Tensor
    high: Tensor

    def merge(self, other: "Extremes") -> "Extremes":
        """The extremes of both."""
        return Extremes(torch.minimum(self.low, other.low), torch.maximum(self.high, other.high))

    def tensors(self) -> dict[str, Tensor]:
        """Every tensor of this state, by name."""
        return {"low": self.low, "high": self.high}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor]) -> "Extremes":
        """What `tensors` gave.

        Raises:
            DataError: they are others.
        """
        checked("extremes", tensors, "low: any channels", "high: any channels")
        return cls(tensors["low"], tensors["high"])
