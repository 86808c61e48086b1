"""Principal subspaces, and how much of a vector lies inside or outside of one.

A subspace is held as the symmetric operator that projects onto it, never as a list of eigenvectors,
whose signs (and, where eigenvalues are equal, directions) rounding would decide.

Where the cut falls between equal eigenvalues, the choice among their directions is arbitrary. Then
the whole group of equal ones counts by the share of it that lies on this side of the cut, which is
the mean square over all choices: no basis is preferred, and no sample's score depends on one.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

__all__ = [
    "equal_groups",
    "explained_dimension",
    "head_origin",
    "part_norm",
    "part_share",
    "principal",
    "residual",
]

_EQUAL = 1e-10
"""Eigenvalues closer than this to each other, relative to the largest, count as equal: sums over
samples are no more precise, so their directions differ from one order of summation to the next."""


def head_origin(
    weight: Float[Tensor, "classes width"], bias: Float[Tensor, " classes"] | None
) -> Float[Tensor, " width"]:
    """The origin in which the head needs no bias, ``o = −W⁺ b``, in float64.

    Args:
        weight: W.
        bias: b; without one, the origin is zero.
    """
    wide = weight.double()
    if bias is None:
        return wide.new_zeros(wide.shape[1])
    return -torch.linalg.pinv(wide) @ bias.double()


def principal(moment: Float[Tensor, "width width"], dimension: int) -> Float[Tensor, "width width"]:
    """P with ``‖P x‖`` the length of x inside the span of the first `dimension` eigenvectors.

    Args:
        moment: a covariance, or a second moment about any origin.
        dimension: from 0 to the width; the largest eigenvalues come first.

    Cost:
        One eigendecomposition.
    """
    return _operator(moment, dimension, inside=True)


def residual(moment: Float[Tensor, "width width"], dimension: int) -> Float[Tensor, "width width"]:
    """R with ``‖R x‖`` the length of x outside the span of the first `dimension` eigenvectors.

    Args:
        moment: a covariance, or a second moment about any origin.
        dimension: from 0 to the width; the largest eigenvalues come first.

    Cost:
        One eigendecomposition.
    """
    return _operator(moment, dimension, inside=False)


def _operator(moment: Tensor, dimension: int, *, inside: bool) -> Tensor:
    values, vectors = torch.linalg.eigh(moment.double())
    values, vectors = values.flip(0), vectors.flip(1)
    width = len(values)
    weights = (torch.arange(width, device=values.device) < dimension).to(values)
    if 0 < dimension < width:
        group = equal_groups(values)
        equal = group == group[dimension]
        weights = torch.where(equal, weights[equal].mean(), weights)
    roots = (weights if inside else 1.0 - weights).sqrt()
    return (vectors * roots) @ vectors.T


def equal_groups(values: Float[Tensor, " width"]) -> Int[Tensor, " width"]:
    """Which eigenvalues count as equal: those of the same number, which counts from zero.

    Args:
        values: in descending order.
    """
    apart = (values[:-1] - values[1:]) > _EQUAL * values[0].abs()
    return torch.cat([apart.new_zeros(1), apart]).cumsum(0)


def explained_dimension(moment: Float[Tensor, "width width"], share: float) -> int:
    """How many of the largest eigenvalues sum to at least `share` of all.

    Args:
        moment: not zero.
        share: above 0, at most 1; reached to within 1e-9, so that rounding does not add one.
    """
    values = torch.linalg.eigvalsh(moment.double()).flip(0).clamp_min(0.0)
    explained = values.cumsum(0) / values.sum()
    return int((explained < share - 1e-9).sum()) + 1


def part_norm(
    vectors: Float[Tensor, "batch width"], operator: Float[Tensor, "width width"]
) -> Float[Tensor, " batch"]:
    """Length of the part of each vector that `principal` or `residual` keeps, in float64."""
    return torch.linalg.vector_norm(vectors.double() @ operator, dim=1)


def part_share(
    vectors: Float[Tensor, "batch width"], operator: Float[Tensor, "width width"]
) -> Float[Tensor, " batch"]:
    """`part_norm` as a share of each vector's length, from 0 to 1; 0 where the vector is zero."""
    whole = torch.linalg.vector_norm(vectors.double(), dim=1)
    return part_norm(vectors, operator) / torch.where(whole > 0, whole, 1.0)
