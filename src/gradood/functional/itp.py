"""Instance-aware test pruning [xu2025itp]: contributions that a class never made do not count."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from gradood.evidence.tracing import tracing
from gradood.functional._tensor_shapes import checked

__all__ = ["ClassSpreads", "contribution_limits", "limited_logits"]

_CHUNK = 1 << 20
"""Contributions held at a time, 8 MB of them."""
_LEAST = 10
"""Fit samples of which the variance of a class alone says something."""


@dataclass(frozen=True, eq=False, slots=True)
class ClassSpreads:
    """Counts, means and, of every unit, the sum of squared deviations in each class.

    Merging follows Chan, Golub and LeVeque, which never subtracts large sums.

    Attributes:
        count: (classes,) int64.
        mean: (classes, width) float64; zero where the count is.
        squares: (classes, width) float64, about the class means.
    """

    count: Tensor
    mean: Tensor
    squares: Tensor

    @staticmethod
    def of(
        features: Float[Tensor, "batch width"], labels: Int[Tensor, " batch"], classes: int
    ) -> "ClassSpreads":
        """Of one batch."""
        values = features.double()
        count = torch.bincount(labels, minlength=classes)
        blank = values.new_zeros(classes, values.shape[1])
        mean = blank.index_add(0, labels, values) / count.clamp_min(1)[:, None]
        return ClassSpreads(
            count, mean, blank.index_add(0, labels, (values - mean[labels]).square())
        )

    def merge(self, other: "ClassSpreads") -> "ClassSpreads":
        """Of both sets of samples."""
        count = self.count + other.count
        share = (other.count.double() / count.clamp_min(1))[:, None]
        shift = other.mean - self.mean
        first = (self.count == 0)[:, None]
        mean = torch.where(first, other.mean, self.mean + shift * share)
        between = self.count.double()[:, None] * share * shift.square()
        return ClassSpreads(count, mean, self.squares + other.squares + between)

    def tensors(self) -> dict[str, Tensor]:
        """Every tensor of this state, by name."""
        return {"count": self.count, "mean": self.mean, "squares": self.squares}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor]) -> "ClassSpreads":
        """What `tensors` gave.

        Raises:
            DataError: they are others.
        """
        shapes = ("count: int classes", "mean: float64 classes width")
        checked("spreads", tensors, *shapes, "squares: float64 classes width")
        return cls(tensors["count"], tensors["mean"], tensors["squares"])

    def deviations(self) -> Float[Tensor, "classes width"]:
        """Standard deviation (n − 1) of each unit in each class.

        A class of fewer than ten samples has that of all classes together, within them; where no
        class has two samples, that of all samples about their mean.
        """
        samples, seen = int(self.count.sum()), int((self.count > 0).sum())
        within = self.squares.sum(0)
        freedom = samples - seen
        if freedom == 0:
            shares = self.count.double() / max(1, samples)
            shift = self.mean - shares @ self.mean
            within = self.count.double() @ shift.square()
            freedom = max(1, samples - 1)
        own = self.squares / (self.count - 1).clamp_min(1)[:, None]
        many = (self.count >= _LEAST)[:, None]
        return torch.where(many, own, within / freedom).sqrt()


def contribution_limits(
    mean: Float[Tensor, "classes width"],
    deviation: Float[Tensor, "classes width"],
    weight: Float[Tensor, "classes width"],
    percentile: float,
    deviations: float,
) -> Float[Tensor, "classes width"]:
    """What a contribution ``c_kd = W_kd h_d`` must stay below to count, by both prunings.

    ``μ_kd + λ σ_kd`` with μ = W_kd E[h_d | k], σ = |W_kd| sd[h_d | k], which is the mean and the
    standard deviation of c_kd in class k; −∞ where μ_kd is not above its percentile.

    Args:
        mean: class means of h.
        deviation: class standard deviations of h.
        weight: W.
        percentile: of all classes · width means of contributions.
        deviations: λ.
    """
    wide = weight.double()
    center = wide * mean
    threshold = float(np.percentile(center.cpu().numpy(), percentile))
    kept = center > threshold
    # Where all are equal, none stands out and none is pruned.
    kept = kept if bool(kept.any()) else center >= threshold
    return torch.where(kept, center + deviations * wide.abs() * deviation, -torch.inf)


def limited_logits(
    features: Float[Tensor, "batch width"],
    weight: Float[Tensor, "classes width"],
    bias: Float[Tensor, " classes"] | None,
    limits: Float[Tensor, "classes width"],
) -> Float[Tensor, "batch classes"]:
    """``z_k = Σ_d c_kd [c_kd < limit_kd] + b_k`` in float64.

    Args:
        features: h.
        weight: W.
        bias: b.
        limits: from `contribution_limits`.

    Cost:
        batch · classes · width products and comparisons; memory for 2²⁰ of them, or for
        batch · width.
    """
    h, wide = features.double(), weight.double()
    step = wide.shape[0] if tracing() else max(1, _CHUNK // max(1, h.numel()))
    parts: list[Tensor] = []
    for rows, bounds in zip(wide.split(step), limits.double().split(step), strict=True):
        made = h[:, None, :] * rows[None]
        parts.append(torch.where(made < bounds[None], made, 0.0).sum(2))
    logits = torch.cat(parts, 1)
    return logits if bias is None else logits + bias.double()
