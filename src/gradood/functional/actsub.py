"""The decisive and the insignificant part of features [zongur2025actsub]."""

import torch
from jaxtyping import Float
from torch import Tensor

from gradood.functional.directions import directions
from gradood.functional.logits import energy
from gradood.functional.nnguide import guidance
from gradood.functional.shaping import scaled
from gradood.functional.subspace import equal_groups

__all__ = [
    "balanced_dimension",
    "balanced_power",
    "bounded_energy",
    "bounded_nearness",
    "decisive_score",
    "insignificant_score",
    "steady_percentile",
]

_LEAST = 1e-6
"""Of either factor, which a power needs positive."""
_PERCENTILES = (95, 90, 85, 80, 75, 70, 65, 60, 50, 40, 30, 20, 10)
_AGREEMENT = 0.9
_POWER = 2.0
_NEAREST = 1e-12
"""Least distance from a cosine of 1."""


def balanced_dimension(
    features: Float[Tensor, "rows width"], moment: Float[Tensor, "width width"]
) -> int:
    """Singular vectors of the head in whose span features are as long as outside of it, on average.

    Directions of equal singular value, such as those that the head does not read, count by their
    mean, as in `gradood.functional.subspace.principal`.

    Args:
        features: of the fit.
        moment: ``WᵀW`` of the head's weight.

    Returns:
        From 0 to one less than the width.

    Cost:
        One eigendecomposition; rows · width² multiplications.
    """
    values, vectors = torch.linalg.eigh(moment.double())
    group = equal_groups(values.flip(0))
    member = torch.nn.functional.one_hot(group).double()
    squared = (features.double() @ vectors.flip(1)).square() @ (member / member.sum(0)) @ member.T
    inside = squared.cumsum(1)
    outside = (inside[:, -1:] - inside).clamp_min(0.0)
    # Of none up to all but the last direction: the whole of a feature is outside of none.
    apart = torch.cat([inside[:, -1:], outside[:, :-1]], 1).sqrt().mean(0)
    within = torch.cat([torch.zeros_like(inside[:, :1]), inside[:, :-1]], 1).sqrt().mean(0)
    return int((within - apart).abs().argmin())


def decisive_score(
    decisive: Float[Tensor, "batch width"],
    weight: Float[Tensor, "classes width"],
    bias: Float[Tensor, " classes"] | None,
    percentile: float,
) -> Float[Tensor, " batch"]:
    """``E = logsumexp(W SCALE(P h) + b)``, high for in-distribution samples; 1e-6 at least.

    Args:
        decisive: ``P h``.
        weight: W.
        bias: b.
        percentile: of SCALE.
    """
    logits = scaled(decisive, percentile) @ weight.double().T
    return bounded_energy(logits if bias is None else logits + bias.double())


def bounded_energy(logits: Float[Tensor, "batch classes"]) -> Float[Tensor, " batch"]:
    """``logsumexp(z)``, 1e-6 at least."""
    return -energy(logits).clamp_max(-_LEAST)


def bounded_nearness(similar: Float[Tensor, " batch"]) -> Float[Tensor, " batch"]:
    """``−log(1 − u)``, 1e-6 at least."""
    return -(1.0 - similar).clamp_min(_NEAREST).log().clamp_max(-_LEAST)


def insignificant_score(
    insignificant: Float[Tensor, "batch width"],
    bank: Float[Tensor, "bank width"],
    k: int,
    *,
    own: bool = False,
) -> Float[Tensor, " batch"]:
    """``I = −log(1 − u)``, u the mean of the k largest cosines with the bank; 1e-6 at least.

    Args:
        insignificant: ``R h``.
        bank: directions of the fit samples' insignificant parts, more than k.
        k: how many.
        own: whether the bank holds each of these too, which is then left out.

    Returns:
        High for in-distribution samples.

    Cost:
        batch · bank · width multiplications.
    """
    units = directions(insignificant)
    similar = guidance(units, bank, k + own)
    if own:
        similar = (similar * (k + 1) - units.square().sum(1)) / k
    return bounded_nearness(similar)


def steady_percentile(
    decisive: Float[Tensor, "rows width"],
    weight: Float[Tensor, "classes width"],
    bias: Float[Tensor, " classes"] | None,
) -> float:
    """The largest percentile, 95 at most, with which SCALE keeps the order of the fit samples.

    That is, the decisive scores with it and without have a rank correlation of 0.9 or more. Where
    known inputs are the sparser ones, or a few units of many are left, a larger one turns it over.

    Args:
        decisive: ``P h`` of the fit samples.
        weight: W.
        bias: b.

    Returns:
        0, without SCALE, if none does.
    """
    plain = _ranks(decisive_score(decisive, weight, bias, 0.0))
    for percentile in _PERCENTILES:
        ranks = _ranks(decisive_score(decisive, weight, bias, float(percentile)))
        if float(plain @ ranks) >= _AGREEMENT:
            return float(percentile)
    return 0.0


def balanced_power(
    decisive: Float[Tensor, " rows"], insignificant: Float[Tensor, " rows"]
) -> float:
    """``λ = sd(log E) / sd(log I)``: with it both factors of ``E · I^λ`` vary as much.

    Args:
        decisive: E of the fit samples.
        insignificant: I of them, each without itself in the bank.

    Returns:
        The published 2 where either does not vary.
    """
    spread = [float(factor.log().std(correction=0)) for factor in (decisive, insignificant)]
    return spread[0] / spread[1] if min(spread) > _NEAREST else _POWER


def _ranks(values: Tensor) -> Tensor:
    """Ranks about their mean, of unit length; zero for a single value."""
    ranks = values.argsort(stable=True).argsort(stable=True).double()
    ranks = ranks - ranks.mean()
    return ranks / torch.linalg.vector_norm(ranks).clamp_min(1.0)
