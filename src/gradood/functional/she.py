"""Simplified Hopfield energy [zhang2023she]."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

__all__ = ["pattern_agreement"]


def pattern_agreement(
    features: Float[Tensor, "batch width"],
    patterns: Float[Tensor, "classes width"],
    predicted: Int[Tensor, " batch"],
) -> Float[Tensor, " batch"]:
    """``h · S_ĉ`` in float64, high for in-distribution samples.

    Args:
        features: h.
        patterns: S, one per class.
        predicted: ĉ.
    """
    return torch.linalg.vecdot(features.double(), patterns[predicted])
