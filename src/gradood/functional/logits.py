"""Scores of logits alone; higher = more out-of-distribution."""

import torch
from jaxtyping import Float
from torch import Tensor

__all__ = ["energy", "max_logit", "max_softmax"]


def max_softmax(logits: Float[Tensor, "batch classes"]) -> Float[Tensor, " batch"]:
    """Negative maximum softmax probability, ``−max_c softmax(z)_c`` [hendrycks2017msp]."""
    return -torch.softmax(logits, 1).amax(1)


def max_logit(logits: Float[Tensor, "batch classes"]) -> Float[Tensor, " batch"]:
    """Negative maximum logit, ``−max_c z_c`` [hendrycks2022maxlogit]."""
    return -logits.amax(1)


def energy(
    logits: Float[Tensor, "batch classes"], temperature: float = 1.0
) -> Float[Tensor, " batch"]:
    """Free energy, ``−T · logsumexp(z / T)`` [liu2020energy]."""
    return -temperature * torch.logsumexp(logits / temperature, 1)
