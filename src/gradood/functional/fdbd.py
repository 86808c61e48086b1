"""Distances to decision boundaries of a linear head [liu2024fdbd]."""

import torch
from jaxtyping import Float
from torch import Tensor

__all__ = ["SHORTEST", "boundary_distance", "inverse_separations"]

SHORTEST = torch.finfo(torch.float32).tiny
"""Of what is divided by."""


def inverse_separations(
    weight: Float[Tensor, "classes width"],
) -> Float[Tensor, "classes classes"]:
    """``1 / ‖w_a − w_b‖₂`` in float64; zero where the rows are equal and no boundary lies between.

    Cost:
        classes² · width operations, once per fit.
    """
    rows = weight.double()
    # By differences, as rows may be nearly equal.
    apart = torch.cdist(rows, rows, compute_mode="donot_use_mm_for_euclid_dist")
    return torch.where(apart > 0, 1.0 / apart, 0.0)


def boundary_distance(
    logits: Float[Tensor, "batch classes"],
    inverse: Float[Tensor, "classes classes"],
    length: Float[Tensor, " batch"],
) -> Float[Tensor, " batch"]:
    """Mean distance to the boundaries of the predicted class, per unit of length; high for ID.

    ``1/(C − 1) · Σ_{c≠ĉ} |z_ĉ − z_c| / ‖w_ĉ − w_c‖₂ / length`` with ĉ = argmax z, over the classes
    that have a boundary with ĉ.

    Args:
        logits: z, in float64.
        inverse: from `inverse_separations`.
        length: ‖h − μ‖₂, or ‖h‖₂.
    """
    largest, predicted = logits.max(1)
    scale = inverse[predicted]
    distances = (largest[:, None] - logits) * scale
    mean = distances.sum(1) / (scale > 0).sum(1).clamp_min(1)
    return mean / length.clamp_min(SHORTEST)
