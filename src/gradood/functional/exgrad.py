"""Gradients of the last layer for every label, weighted by the prediction [igoe2022exgrad]."""

from math import isinf

import torch
from jaxtyping import Float
from torch import Tensor

__all__ = ["expected_gradient_norm"]


def expected_gradient_norm(
    features: Float[Tensor, "batch width"],
    logits: Float[Tensor, "batch classes"],
    *,
    order: float = 1.0,
    bias: bool = False,
) -> Float[Tensor, " batch"]:
    """``Σ_y p_y ‖∂ log p_y / ∂W‖_q``: the norm expected for labels drawn from the prediction.

    For label y the gradient is the outer product ``(e_y − p) hᵀ``, so the sum is
    ``‖h‖_q · Σ_y p_y ‖e_y − p‖_q``; for q = 1 that is ``2 ‖h‖₁ · Σ_y p_y (1 − p_y)``.

    Args:
        features: h.
        logits: z, in float64.
        order: q, from 1 to infinity.
        bias: include ∂/∂b, an input that is always one.
    """
    p = torch.softmax(logits, 1)
    top = p.argmax(1, keepdim=True)
    # For the largest, 1 − p and Σ p^q − p^q cancel: both are taken from the other classes.
    others = p.scatter(1, top, 0.0)
    missing = (1.0 - p).scatter(1, top, others.sum(1, keepdim=True))
    if isinf(order):
        norms = missing
    else:
        powers = others**order
        rest = powers.sum(1, keepdim=True)
        own = p.gather(1, top) ** order
        remaining = (rest - powers + own).scatter(1, top, rest)
        norms = (remaining + missing**order) ** (1.0 / order)
    inputs = features.double()
    if bias:
        inputs = torch.cat([inputs, inputs.new_ones(inputs.shape[0], 1)], 1)
    return (p * norms).sum(1) * torch.linalg.vector_norm(inputs, order, dim=1)
