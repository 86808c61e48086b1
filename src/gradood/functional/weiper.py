"""WeiPer+KLD [granz2024weiper]: densities of features and of logits of randomly turned weights."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from gradood.evidence.tracing import tracing
from gradood.functional.gradnorm import linear_logits
from gradood.functional.path_integrals import path_integral, values_of

__all__ = [
    "EPSILON",
    "Reference",
    "densities",
    "density_terms",
    "divergence",
    "divergence_terms",
    "perturbed_softmax",
    "perturbed_weight",
    "reference_densities",
    "smoothed",
]

EPSILON = (0.01, 0.025)
"""Added to every bin: of densities of features, and of perturbed logits."""
_CHUNK = 1 << 20
"""Values sorted into bins at a time."""


@dataclass(frozen=True, eq=False, slots=True)
class Reference:
    """Bounds and mean densities of features, and of perturbed logits: two rows of each.

    Attributes:
        low: (2,) smallest value.
        high: (2,) largest value.
        density: (2, bins) mean over the fit samples.
    """

    low: Tensor
    high: Tensor
    density: Tensor


def perturbed_weight(
    weight: Float[Tensor, "classes width"], delta: float, repeats: int, seed: int = 0
) -> Float[Tensor, "perturbed width"]:
    """``w_k + δ ‖w_k‖ u`` for `repeats` random unit vectors u of each class, in float32.

    Args:
        weight: W.
        delta: δ.
        repeats: r; rows i · classes + k are the i-th perturbation of class k.
        seed: of the vectors, which are drawn on the CPU.
    """
    generator = torch.Generator("cpu").manual_seed(seed)
    size = (repeats, *weight.shape)
    drawn = torch.randn(size, generator=generator, dtype=torch.float32, device="cpu")
    units = F.normalize(drawn, dim=2).to(weight.device).double()
    wide = weight.double()
    length = torch.linalg.vector_norm(wide, dim=1, keepdim=True)
    return (wide + delta * length * units).flatten(0, 1).float()


def densities(
    values: Float[Tensor, "batch units"], low: float | Tensor, high: float | Tensor, bins: int
) -> Float[Tensor, "batch bins"]:
    """Share of each row's values in equal bins from `low` to `high`, in float64.

    A value at `high` is in the last bin, one outside of all is in none.

    Args:
        values: of one sample each row, as draws of one density.
        low: lower bound of the first bin.
        high: upper bound of the last, above `low`.
        bins: how many.
    """
    rows = max(1, _CHUNK // max(1, values.shape[1]))
    found: list[Tensor] = []
    for part in [values.double()] if tracing() else values.double().split(rows):
        index = _bins(part, low, high, bins)
        count = part.new_zeros(part.shape[0], bins + 1)
        count.scatter_add_(1, index, torch.ones_like(part))
        found.append(count[:, :bins] / part.shape[1])
    return torch.cat(found)


def _bins(values: Tensor, low: float | Tensor, high: float | Tensor, bins: int) -> Tensor:
    """The bin of each value; one past the last for those in none."""
    place = ((values - low) / (high - low) * bins).floor()
    place = torch.where(values == high, bins - 1.0, place)
    outside = (place < 0) | (place >= bins) | place.isnan()
    return torch.where(outside, float(bins), place).long()


def density_terms(
    start: Float[Tensor, "batch units"],
    stop: Float[Tensor, "batch units"],
    reference: Reference,
    smoothing: int,
) -> tuple[Float[Tensor, "batch units"], Float[Tensor, " batch"], Float[Tensor, " batch"]]:
    """Aumann-Shapley values of the features' divergence, each unit a mass that changes its bin.

    Along the straight path between the densities q of both, with ``G_j = ∫ ∂D/∂q_j``, a unit has
    ``(G_j − G_i) / units`` for its bins i at the start and j at the end; outside of all, G is 0.

    Args:
        start: features of the reference.
        stop: of the samples.
        reference: whose first row is of features.
        smoothing: of the features.

    Returns:
        The values, the divergence at the start, and the estimated error.
    """
    low, high, density = float(reference.low[0]), float(reference.high[0]), reference.density[0]
    bins = len(density)

    def value(points: Tensor, rows: Tensor) -> Tensor:
        return divergence(points, density, smoothing, EPSILON[0])

    ends = [densities(values, low, high, bins) for values in (start, stop)]
    found = path_integral(values_of(value), ends[0], ends[1])
    gradient = F.pad(found.gradient, (0, 1))
    before, after = (
        gradient.gather(1, _bins(values.double(), low, high, bins)) for values in (start, stop)
    )
    return (after - before) / start.shape[1], found.start, found.error


def smoothed(density: Float[Tensor, "batch bins"], size: int) -> Float[Tensor, "batch bins"]:
    """Mean over a window of `size` bins, ``(size − 1) // 2`` of them before; edges repeated."""
    before = (size - 1) // 2
    if tracing():
        last = density.shape[1] - 1
        window = torch.arange(last + 1)[:, None] + torch.arange(size) - before
        return density[:, window.clamp(0, last)].mean(2)
    padded = F.pad(density[:, None], (before, size - 1 - before), mode="replicate")
    return F.avg_pool1d(padded, size, stride=1)[:, 0]


def divergence(
    density: Float[Tensor, "batch bins"],
    reference: Float[Tensor, " bins"],
    smoothing: int,
    epsilon: float,
) -> Float[Tensor, " batch"]:
    """``KL(p ‖ q) + KL(q ‖ p)`` of the reference p and each density q, smoothed.

    Args:
        density: q.
        reference: p, as it is.
        smoothing: bins over which q is averaged.
        epsilon: added to every bin of both, which are then scaled to sum 1.
    """
    q = smoothed(density, smoothing) + epsilon
    q = q / q.sum(1, keepdim=True)
    p = reference + epsilon
    p = p / p.sum()
    return ((p - q) * (p.log() - q.log())).sum(1)


def perturbed_softmax(
    logits: Float[Tensor, "batch perturbed"], classes: int
) -> Float[Tensor, " batch"]:
    """Mean over the perturbations of the largest softmax probability.

    Args:
        logits: of the perturbed weights, `classes` of each perturbation together.
        classes: of the model.
    """
    return torch.softmax(logits.unflatten(1, (-1, classes)), 2).amax(2).mean(1)


def reference_densities(
    features: Float[Tensor, "samples width"],
    weight: Float[Tensor, "perturbed width"],
    bias: Float[Tensor, " perturbed"] | None,
    bins: int,
) -> Reference | None:
    """The mean densities of fit samples, between their own extremes; None where those are equal.

    Args:
        features: h of the fit samples.
        weight: from `perturbed_weight`.
        bias: b, repeated.
        bins: of the histograms.

    Cost:
        Two products with the perturbed weights, 2²⁰ of their values at a time.
    """
    parts = features.split(max(1, _CHUNK // max(features.shape[1], len(weight))))
    extremes = [
        torch.stack([torch.stack(values.aminmax()) for values in _kinds(part, weight, bias)])
        for part in parts
    ]
    found = torch.stack(extremes)
    low, high = found[..., 0].amin(0), found[..., 1].amax(0)
    if not bool((low < high).all()):
        return None
    total = low.new_zeros(2, bins)
    for part in parts:
        for i, values in enumerate(_kinds(part, weight, bias)):
            total[i] += densities(values, float(low[i]), float(high[i]), bins).sum(0)
    return Reference(low, high, total / len(features))


def divergence_terms(
    features: Float[Tensor, "batch width"],
    weight: Float[Tensor, "perturbed width"],
    bias: Float[Tensor, " perturbed"] | None,
    reference: Reference,
    smoothing: tuple[int, int],
    classes: int,
) -> Float[Tensor, "batch terms"]:
    """Both divergences, and the mean largest softmax probability: the three terms of the score.

    Args:
        features: h.
        weight: from `perturbed_weight`.
        bias: b, repeated.
        reference: from `reference_densities`.
        smoothing: bins averaged over, for features and for perturbed logits.
        classes: of the model.
    """
    bins = reference.density.shape[1]
    rows = max(1, _CHUNK // max(features.shape[1], len(weight)))
    found: list[Tensor] = []
    for part in [features] if tracing() else features.split(rows):
        kinds = _kinds(part, weight, bias)
        terms: list[Tensor] = []
        for i, values in enumerate(kinds):
            low, high = reference.low[i], reference.high[i]
            if not tracing():
                low, high = float(low), float(high)
            q = densities(values, low, high, bins)
            terms.append(divergence(q, reference.density[i], smoothing[i], EPSILON[i]))
        found.append(torch.stack([*terms, perturbed_softmax(kinds[1], classes)], 1))
    return torch.cat(found)


def _kinds(features: Tensor, weight: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor]:
    """The two kinds of values of each sample: its features, and its perturbed logits."""
    return features.double(), linear_logits(features, weight, bias)
