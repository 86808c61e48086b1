"""Divergence from typical posteriors [hendrycks2022maxlogit]."""

import torch
from jaxtyping import Float
from torch import Tensor

from gradood.functional.entropies import shannon_entropy

__all__ = ["divergence_from_templates", "log_templates"]


def log_templates(means: Float[Tensor, "templates classes"]) -> Float[Tensor, "templates classes"]:
    """Logarithm of mean posteriors; a probability that was always 0 counts as 2e-308."""
    return means.clamp_min(torch.finfo(means.dtype).tiny).log()


def divergence_from_templates(
    logits: Float[Tensor, "batch classes"], logs: Float[Tensor, "templates classes"]
) -> Float[Tensor, " batch"]:
    """``min_k KL(softmax(z) ‖ d_k)``.

    Args:
        logits: z.
        logs: log d_k, from `log_templates`.

    Cost:
        One (batch, templates) product.
    """
    cross = -(torch.softmax(logits, 1) @ logs.T)
    # Rounding alone makes a divergence negative.
    return (cross.amin(1) - shannon_entropy(logits)).clamp_min(0.0)
