"""Vectors whose lengths are scaled by a power of themselves [janiak2025geometry]."""

import torch
from jaxtyping import Float
from torch import Tensor

from gradood.functional.directions import directions

__all__ = ["effective_rank", "radially_scaled"]


def radially_scaled(
    vectors: Float[Tensor, "batch width"], beta: float
) -> Float[Tensor, "batch width"]:
    """``h / ‖h‖₂^β`` in float64: h for β = 0, its direction for β = 1; a zero vector stays zero.

    Args:
        vectors: h.
        beta: β.
    """
    length = torch.linalg.vector_norm(vectors.double(), dim=1, keepdim=True)
    scale = torch.where(length > 0, length, 1.0).pow(1.0 - beta)
    return directions(vectors) * scale


def effective_rank(scatter: Float[Tensor, "width width"]) -> float:
    """Exponential of the entropy of the eigenvalues, as shares of their sum: 1 to width.

    Args:
        scatter: symmetric, without negative eigenvalues but those of rounding; of any scale.

    Returns:
        Zero for a scatter of zero.
    """
    values = torch.linalg.eigvalsh(scatter).clamp_min(0)
    total = values.sum()
    if float(total) == 0:
        return 0.0
    shares = values / total
    return float(torch.exp(-torch.special.xlogy(shares, shares).sum()))
