"""Entropies of softmax probabilities, exact also where one of them is all but 1."""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from gradood.evidence.tracing import tracing
from gradood.functional._softplus import softplus

__all__ = ["generalized_entropy", "log_probabilities", "shannon_entropy"]


def log_probabilities(
    logits: Float[Tensor, "batch classes"],
) -> tuple[Float[Tensor, "batch classes"], Float[Tensor, "batch classes"]]:
    """Logarithms of p and of 1 − p, p = softmax(z); the classes in descending order.

    The largest probability is taken from the sum of all others, so that neither logarithm loses
    precision where it is near 1: a confident network differs in 1 − p alone.

    Returns:
        log p and log(1 − p).
    """
    ordered = logits.sort(1, descending=True).values
    top, rest = ordered[:, :1], ordered[:, 1:]
    # Of all classes but the first, relative to it; −inf if there is no other.
    others = torch.logsumexp(rest - top, 1, keepdim=True)
    log_rest = rest - top - softplus(others)
    log_p = torch.cat([_log_sigmoid(-others), log_rest], 1)
    log_not = torch.cat([_log_sigmoid(others), torch.log1p(-log_rest.exp())], 1)
    return log_p, log_not


def shannon_entropy(logits: Float[Tensor, "batch classes"]) -> Float[Tensor, " batch"]:
    """``−Σ_c p_c log p_c`` in nats, p = softmax(z)."""
    log_p, _ = log_probabilities(logits)
    p = log_p.exp()
    return -torch.where(p > 0, p * log_p, 0.0).sum(1)


def generalized_entropy(
    logits: Float[Tensor, "batch classes"], gamma: float, largest: int
) -> Float[Tensor, " batch"]:
    """``Σ_c p_c^γ (1 − p_c)^γ`` over the largest probabilities [liu2023gen].

    Args:
        logits: z.
        gamma: γ > 0.
        largest: how many classes are summed over, at most.
    """
    log_p, log_not = log_probabilities(logits)
    return torch.exp(gamma * (log_p + log_not))[:, :largest].sum(1)


def _log_sigmoid(values: Tensor) -> Tensor:
    return -softplus(-values) if tracing() else F.logsigmoid(values)
