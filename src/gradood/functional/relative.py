"""Relative features: how far a feature lies from its predicted class's mean [ling2025cadref]."""

import torch
from jaxtyping import Float
from torch import Tensor

__all__ = ["SHORTEST", "decoupled_errors", "relative_error"]

SHORTEST = torch.finfo(torch.float32).tiny
"""Of what is divided by."""


def relative_error(
    features: Float[Tensor, "batch width"], centers: Float[Tensor, "batch width"]
) -> Float[Tensor, " batch"]:
    """``‖h − μ‖₁ / ‖h‖₁`` in float64.

    Args:
        features: h.
        centers: μ, the mean of each row's predicted class.
    """
    wide = features.double()
    return (wide - centers).abs().sum(1) / _length(wide)


def decoupled_errors(
    features: Float[Tensor, "batch width"],
    centers: Float[Tensor, "batch width"],
    weights: Float[Tensor, "batch width"],
) -> tuple[Float[Tensor, " batch"], Float[Tensor, " batch"]]:
    """`relative_error`, split by whether the difference raises the predicted class's logit.

    Args:
        features: h.
        centers: μ.
        weights: the head's row of each predicted class.

    Returns:
        The sums of what raises it and of what lowers it; units of zero weight do neither.
    """
    wide = features.double()
    aligned = (wide - centers) * weights.double().sign()
    length = _length(wide)
    return aligned.clamp_min(0.0).sum(1) / length, (-aligned).clamp_min(0.0).sum(1) / length


def _length(features: Tensor) -> Tensor:
    return features.abs().sum(1).clamp_min(SHORTEST)
