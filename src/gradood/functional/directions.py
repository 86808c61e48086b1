"""Directions of vectors, whatever their length."""

import torch
from jaxtyping import Float
from torch import Tensor

__all__ = ["directions"]


def directions(vectors: Float[Tensor, "batch width"]) -> Float[Tensor, "batch width"]:
    """``h / ‖h‖₂`` in float64; a zero vector, which has no direction, stays zero."""
    wide = vectors.double()
    # By its largest entry first: the square of a very long or short vector is no number.
    largest = wide.abs().amax(1, keepdim=True)
    scaled = wide / torch.where(largest > 0, largest, 1.0)
    length = torch.linalg.vector_norm(scaled, dim=1, keepdim=True)
    return scaled / length.clamp_min(1.0)
