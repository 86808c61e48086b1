"""Scores of logits alone; higher = more out-of-distribution."""

import torch
from jaxtyping import Float
from torch import Tensor

from gradood.functional._softplus import softplus

__all__ = [
    "energy",
    "joint_energy",
    "logit_gap",
    "max_logit",
    "max_softmax",
    "probability_sum",
]


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


def joint_energy(logits: Float[Tensor, "batch classes"]) -> Float[Tensor, " batch"]:
    """Joint energy of labels of which several may hold, ``−Σ_c log(1 + e^z_c)``
    [wang2021jointenergy]."""
    return -softplus(logits, threshold=50.0).sum(1)


def probability_sum(logits: Float[Tensor, "batch classes"]) -> Float[Tensor, " batch"]:
    """Negative expected number of labels that hold, ``−Σ_c sigmoid(z_c)``."""
    return -torch.sigmoid(logits).sum(1)


def logit_gap(logits: Float[Tensor, "batch classes"], largest: int) -> Float[Tensor, " batch"]:
    """``−(z'_1 − mean_{2≤j≤N} z'_j)``, z' the N largest logits in order [liang2025logitgap].

    Args:
        logits: z.
        largest: N ≥ 2; all of them if there are fewer. Of one logit, it is the negative logit.
    """
    ordered = logits.topk(min(largest, logits.shape[1]), 1).values
    if ordered.shape[1] == 1:
        return -ordered[:, 0]
    return ordered[:, 1:].mean(1) - ordered[:, 0]
