"""Abnormality of gradients of inner layers [chen2023gaia]."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

__all__ = ["abnormality_ratio", "log_softmax_gradient", "zero_abnormality"]


def zero_abnormality(shares: Sequence[Float[Tensor, "batch _"]]) -> Float[Tensor, " batch"]:
    """GAIA-Z: mean over the channels of all layers of the squared share of non-zero gradients.

    Args:
        shares: per layer (batch, channels), the share of positions with a non-zero gradient.
    """
    total = sum(share.double().square().sum(1) for share in shares)
    assert isinstance(total, Tensor)
    return total / sum(share.shape[1] for share in shares)


def log_softmax_gradient(
    logits: Float[Tensor, "batch classes"], weight: Float[Tensor, "classes width"]
) -> Float[Tensor, "batch width"]:
    """``∂ Σ_c log softmax(z)_c / ∂h = Σ_c W_c − C · p W``, in float64."""
    p = torch.softmax(logits.double(), 1)
    return (1.0 - logits.shape[1] * p) @ weight.double()


def abnormality_ratio(
    inner: Sequence[Float[Tensor, "batch _"]], outer: Float[Tensor, "batch _"]
) -> Float[Tensor, " batch"]:
    """GAIA-A: mean over channels of ``(inner / O)²`` with ``O = sqrt(mean_c |outer_c|)``.

    A perfectly uniform softmax gives O = 0 and the score +inf; a zero inner gradient over a zero
    O is +inf too, never NaN.

    Args:
        inner: per layer (batch, channels), spatial mean of the gradient of the feature sum.
        outer: (batch, channels of the last map), spatial mean of the log-softmax gradient.
    """
    total = sum(gradient.double().square().sum(1) for gradient in inner)
    assert isinstance(total, Tensor)
    mean = total / sum(gradient.shape[1] for gradient in inner)
    squared = outer.double().abs().mean(1)
    return torch.where(squared > 0, mean / squared, torch.inf)
