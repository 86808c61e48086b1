"""A shared covariance that can be inverted: shrinkage, whitening and how well conditioned it is."""

import torch
from jaxtyping import Float
from torch import Tensor

__all__ = ["oracle_shrinkage", "pseudo_whitening", "squared_distances", "whitening"]


def oracle_shrinkage(
    covariance: Float[Tensor, "width width"], samples: int
) -> tuple[Float[Tensor, "width width"], float]:
    """Shrink toward a multiple of the identity by the OAS weight [chen2010oas].

    Args:
        covariance: scatter / samples.
        samples: how many samples it was taken from.

    Returns:
        The shrunk covariance and its weight in [0, 1].
    """
    width = len(covariance)
    mean = covariance.diagonal().mean()
    squares = covariance.square().mean()
    numerator = squares + mean.square()
    denominator = (samples + 1.0) * (squares - mean.square() / width)
    weight = 1.0 if float(denominator) <= 0 else min(1.0, float(numerator / denominator))
    shrunk = (1.0 - weight) * covariance
    shrunk.diagonal().add_(weight * mean)
    return shrunk, weight


def whitening(
    covariance: Float[Tensor, "width width"],
) -> tuple[Float[Tensor, "width width"], float]:
    """The symmetric T with ``T T = covariance⁻¹``, and the covariance's condition number.

    Directions whose variance is below rounding (1e-12 of the largest) are given that floor, so T is
    finite for any covariance but zero.
    """
    values, vectors = torch.linalg.eigh(covariance)
    largest = values[-1]
    condition = float(largest / values[0].clamp_min(1e-300)) if float(values[0]) > 0 else torch.inf
    floor = values.clamp_min(largest * 1e-12)
    # The symmetric root: eigenvectors alone have arbitrary signs, which rounding would decide.
    return (vectors / floor.sqrt()) @ vectors.T, condition


def pseudo_whitening(
    covariance: Float[Tensor, "width width"],
) -> tuple[Float[Tensor, "width width"], float]:
    """The symmetric T with ``T T`` the pseudo-inverse of a covariance, and its condition number.

    Directions whose variance is below width · ε of the largest are left out, ε the rounding of
    float64, as `scipy.linalg.pinvh` does, and so scikit-learn's ``EmpiricalCovariance``.
    """
    values, vectors = torch.linalg.eigh(covariance)
    largest = values[-1]
    kept = values > len(values) * torch.finfo(values.dtype).eps * largest
    condition = float(largest / values[0]) if bool(kept[0]) else torch.inf
    roots = torch.where(kept, values.where(kept, 1.0).rsqrt(), 0.0)
    return (vectors * roots) @ vectors.T, condition


def squared_distances(
    features: Float[Tensor, "batch width"],
    transform: Float[Tensor, "width width"],
    centers: Float[Tensor, "classes width"],
) -> Float[Tensor, "batch classes"]:
    """Squared Mahalanobis distances to each center, in float64.

    Args:
        features: h.
        transform: from `whitening`.
        centers: class means, already transformed.
    """
    white = features.double() @ transform
    origin = centers.mean(0)
    return torch.cdist(
        white - origin, centers - origin, compute_mode="use_mm_for_euclid_dist"
    ).square()
