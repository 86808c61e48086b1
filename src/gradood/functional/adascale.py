"""Adaptive scaling by how far activations shift under a small perturbation [regmi2025adascale]."""

import torch
from jaxtyping import Float
from torch import Tensor

__all__ = ["activation_shift", "adaptive_percentile", "scaling_ratio"]

_TIE = 1e-6
_LARGEST = 500.0


def activation_shift(
    features: Float[Tensor, "batch width"],
    perturbed: Float[Tensor, "batch width"],
    *,
    k1: float,
    k2: float,
    balance: float,
) -> Float[Tensor, " batch"]:
    """``Q' = λ Σ_{top k1} |a − a_ε| + Σ_{top k2} relu(a_ε)``, high for unknown inputs.

    The top units are those of the unperturbed a. Units that tie for the last place share it, so
    that no order of equal units (zeros, after a ReLU) has an influence.

    Args:
        features: a.
        perturbed: a_ε, of the perturbed inputs.
        k1: percent of the units whose shift counts, rounded down, at least one unit.
        k2: percent of the units whose perturbed activation corrects it, likewise.
        balance: λ.

    Returns:
        Float64; not finite where an activation is not.
    """
    a, moved = features.double(), perturbed.double()
    shift = _top_sum(a, (a - moved).abs(), k1)
    return balance * shift + _top_sum(a, moved.relu(), k2)


def _top_sum(keys: Tensor, values: Tensor, percent: float) -> Tensor:
    """Sum of `values` (batch, width) at the largest `percent` of `keys`."""
    k = max(1, int(keys.shape[1] * percent / 100))
    last = keys.topk(k, dim=1).values[:, -1:]
    above, equal = keys > last, keys == last
    share = (k - above.sum(1)).double() / equal.sum(1)
    return (values * above).sum(1) + share * (values * equal).sum(1)


def adaptive_percentile(
    shift: Float[Tensor, " batch"],
    reference: Float[Tensor, " samples"],
    p_min: float,
    p_max: float,
) -> Float[Tensor, " batch"]:
    """``p = p_min + (1 − F(Q')) (p_max − p_min)`` with F the empirical distribution of a fit.

    Args:
        shift: Q'.
        reference: Q' of in-distribution samples, in ascending order.
        p_min: percentile of the most out-of-distribution samples.
        p_max: percentile of the most ordinary ones.
    """
    # A sample of the fit must find itself, also where another batch rounded it otherwise.
    below = torch.searchsorted(reference, shift + _TIE * shift.abs(), right=True)
    return p_min + (1 - below.double() / len(reference)) * (p_max - p_min)


def scaling_ratio(
    features: Float[Tensor, "batch width"], percentile: Float[Tensor, " batch"]
) -> Float[Tensor, " batch"]:
    """``r = Σ_j a_j / Σ_{a_j ≥ P_p(a)} a_j`` over positive activations, with p of each sample.

    The denominator takes the ``D − round(D p / 100)`` largest units, at least one. Without any
    positive activation, r is 1.

    Args:
        features: a.
        percentile: p, above 0 and below 100.

    Returns:
        At most 500, whose exponential is finite.
    """
    a = features.double().relu()
    width = a.shape[1]
    kept = (width - (width * percentile / 100).round()).long().clamp_min(1)
    largest = a.topk(int(kept.max()), dim=1).values.cumsum(1)
    top = largest.gather(1, kept[:, None] - 1)[:, 0]
    return torch.where(top > 0, a.sum(1) / top, 1.0).clamp_max(_LARGEST)
