"""Scores of cosines with texts: MCM, GL-MCM and NegLabel; higher = more out-of-distribution."""

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from gradood.evidence.tracing import tracing
from gradood.functional.directions import directions
from gradood.functional.logits import max_softmax

__all__ = ["cosines", "in_groups", "local_matching", "mined_negatives", "negative_share"]

_CHUNK = 1 << 22
"""Cosines of local features held at a time."""


def cosines(
    features: Float[Tensor, "batch width"], weight: Float[Tensor, "classes width"]
) -> Float[Tensor, "batch classes"]:
    """``cos(h, w_c)`` in float64; zero for a zero vector."""
    return directions(features) @ directions(weight).T


def local_matching(
    local: Float[Tensor, "batch positions width"],
    weight: Float[Tensor, "classes width"],
    temperature: float,
) -> Float[Tensor, " batch"]:
    """``−max_{i,c} softmax_c(cos(h_i, w_c) / τ)`` over positions i [miyai2025glmcm].

    Args:
        local: h_i.
        weight: w.
        temperature: τ.

    Cost:
        32 MB of cosines at a time.
    """
    positions = local.shape[1]
    rows = max(1, _CHUNK // max(1, positions * len(weight)))
    chunks = (local,) if tracing() else local.split(rows)
    texts = directions(weight).T
    parts = [
        max_softmax((directions(part.flatten(0, 1)) @ texts) / temperature)
        .reshape(-1, positions)
        .amin(1)
        for part in chunks
    ]
    return torch.cat(parts)


def in_groups(negatives: int, groups: int, seed: int = 0) -> Int[Tensor, "groups size"]:
    """Negative labels divided at random into groups of one size; the last left over are in none.

    Args:
        negatives: how many.
        groups: at most as many.
        seed: of the permutation, which is drawn on the CPU.
    """
    if groups == 1:
        return torch.arange(negatives, device="cpu")[None]
    # Not by torch, whose draw would be an operation of a graph, and another one in each run of it.
    order = np.random.default_rng(seed).permutation(negatives - negatives % groups)
    return torch.tensor(order.tolist(), device="cpu").reshape(groups, -1)


def negative_share(
    positive: Float[Tensor, "batch classes"],
    negative: Float[Tensor, "batch negatives"],
    groups: Int[Tensor, "groups size"],
    temperature: float,
) -> Float[Tensor, " batch"]:
    """``−mean_g Σ_c e^{s_c/τ} / (Σ_c e^{s_c/τ} + Σ_{j∈g} e^{s_j/τ})`` [jiang2024neglabel].

    Args:
        positive: cosines with the classes.
        negative: cosines with the negative labels.
        groups: places of the negative labels of each group.
        temperature: τ.
    """
    known = torch.logsumexp(positive / temperature, 1, keepdim=True)
    unknown = torch.logsumexp((negative / temperature)[:, groups.to(negative.device)], 2)
    return -torch.sigmoid(known - unknown).mean(1)


def mined_negatives(
    candidates: Float[Tensor, "candidates width"],
    texts: Float[Tensor, "classes width"],
    *,
    share: float = 0.15,
    quantile: float = 0.95,
) -> Int[Tensor, " chosen"]:
    """Which candidates are farthest from the classes: NegMining [jiang2024neglabel].

    A candidate is as near as the `quantile` of its cosines with the classes, so that a few classes
    that are close by chance do not decide.

    Args:
        candidates: embeddings of words, such as the nouns and adjectives of WordNet, each kind by
            itself.
        texts: embeddings of the classes.
        share: of the candidates that are chosen; 0.15 in the released code.
        quantile: of the cosines; 0.95 in the paper.

    Returns:
        Places of the chosen ones, the farthest first.
    """
    near = torch.quantile(cosines(candidates, texts), quantile, dim=1)
    return near.argsort(stable=True)[: int(len(candidates) * share)]
