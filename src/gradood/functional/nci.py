"""Proximity of features to the weights of the predicted class [liu2025nci]."""

from jaxtyping import Float, Int
from torch import Tensor

from gradood.functional.directions import directions

__all__ = ["weight_proximity"]


def weight_proximity(
    features: Float[Tensor, "batch width"],
    mean: Float[Tensor, " width"],
    weight: Float[Tensor, "classes width"],
    predicted: Int[Tensor, " batch"],
) -> Float[Tensor, " batch"]:
    """``w_ĉ · (h − mean) / ‖h − mean‖₂`` in float64; 0 for a feature that is the mean itself.

    Args:
        features: h.
        mean: over the fit data.
        weight: W.
        predicted: ĉ.
    """
    centered = directions(features.double() - mean)
    return (centered * weight[predicted].double()).sum(1)
