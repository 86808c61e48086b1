"""Simplified Hopfield energy [zhang2023she]."""

from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from gradood.functional.directions import directions

__all__ = ["Similarity", "pattern_agreement"]

Similarity = Literal["inner", "cosine", "euclidean"]
"""The inner product, the cosine, or minus the Euclidean distance."""


def pattern_agreement(
    features: Float[Tensor, "batch width"],
    patterns: Float[Tensor, "classes width"],
    predicted: Int[Tensor, " batch"],
    similarity: Similarity = "inner",
) -> Float[Tensor, " batch"]:
    """``h · S_ĉ``, or another similarity, in float64; high for in-distribution samples.

    Args:
        features: h.
        patterns: S, one per class.
        predicted: ĉ.
        similarity: see `Similarity`; the cosine with a zero vector is zero.
    """
    wide, own = features.double(), patterns[predicted]
    if similarity == "euclidean":
        return -torch.linalg.vector_norm(wide - own, dim=1)
    if similarity == "cosine":
        wide, own = directions(wide), directions(own)
    return torch.linalg.vecdot(wide, own)
