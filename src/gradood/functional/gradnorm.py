"""The gradient of the last layer, without a gradient [huang2021gradnorm]."""

import torch
from jaxtyping import Float
from torch import Tensor

__all__ = ["last_layer_gradient_norm", "linear_logits"]


def linear_logits(
    features: Float[Tensor, "batch width"],
    weight: Float[Tensor, "classes width"],
    bias: Float[Tensor, " classes"] | None,
) -> Float[Tensor, "batch classes"]:
    """``h Wᵀ + b`` in float64: float32 flips ranks at 1e-7, and half precision overflows."""
    logits = features.double() @ weight.double().T
    return logits if bias is None else logits + bias.double()


def last_layer_gradient_norm(
    features: Float[Tensor, "batch width"],
    logits: Float[Tensor, "batch classes"],
    *,
    temperature: float = 1.0,
    order: float = 1.0,
    bias: bool = False,
) -> Float[Tensor, " batch"]:
    """``‖∂KL(u ‖ softmax(z / T)) / ∂W‖_q``, high for in-distribution samples.

    The gradient is the outer product ``(p − u) hᵀ / T``, whose entrywise q-norm is the product of
    the two factors' q-norms; the bias adds an input that is always one.

    Args:
        features: h.
        logits: z, in float64.
        temperature: T.
        order: q, from 1 to infinity.
        bias: include ∂/∂b.
    """
    p = torch.softmax(logits / temperature, 1)
    left = torch.linalg.vector_norm(p - 1.0 / logits.shape[1], order, dim=1)
    inputs = features.double()
    if bias:
        inputs = torch.cat([inputs, inputs.new_ones(inputs.shape[0], 1)], 1)
    return left * torch.linalg.vector_norm(inputs, order, dim=1) / temperature
