"""Relation of a sample to a bank [kim2023relation]: likeness of features and predictions."""

import torch
from jaxtyping import Float
from torch import Tensor

from gradood.evidence.tracing import tracing

__all__ = ["balanced_weights", "relation"]

_CHUNK = 1 << 20
"""Relations held at a time, 8 MB of them."""


def balanced_weights(
    probabilities: Float[Tensor, "samples classes"],
) -> Float[Tensor, " samples"]:
    """How much each sample of a bank counts, so that every class counts alike.

    ``w_i = 1/C Σ_c p_ic / Σ_j p_jc``, whose sum is 1: a class has the same share of it however
    often the bank's samples are predicted to be of it.

    Args:
        probabilities: softmaxes of the bank.
    """
    wide = probabilities.double()
    # A class whose probability underflows for every sample has no share.
    total = wide.sum(0)
    share = torch.where(total > 0, 1.0 / torch.where(total > 0, total, 1.0), 0.0)
    return (wide * share).mean(1)


def relation(
    units: Float[Tensor, "batch width"],
    probabilities: Float[Tensor, "batch classes"],
    bank_units: Float[Tensor, "samples width"],
    bank_probabilities: Float[Tensor, "samples classes"],
    weights: Float[Tensor, " samples"],
    *,
    temperature: float = 1.0,
    cut: float = 0.03,
) -> Float[Tensor, " batch"]:
    """``Σ_i w_i r_i^t`` over the r_i above a cut, with ``r_i = max(0, ĥ · ĥ_i) (p · p_i)``.

    Args:
        units: ĥ, directions of the features, in float64.
        probabilities: p, softmaxes, in float64.
        bank_units: ĥ_i.
        bank_probabilities: p_i.
        weights: w_i.
        temperature: t.
        cut: relations at or below it do not count.

    Cost:
        batch · samples · (width + classes) multiplications; memory for 2²⁰ relations.
    """
    bank, predicted = bank_units.double().T, bank_probabilities.double().T
    rows = max(1, _CHUNK // max(1, bank.shape[1]))
    parts = [(units, probabilities)]
    if not tracing():
        parts = zip(units.split(rows), probabilities.split(rows), strict=True)
    found: list[Tensor] = []
    for unit, probability in parts:
        alike = (unit @ bank).clamp_min_(0.0).mul_(probability @ predicted)
        alike = torch.where(alike > cut, alike, 0.0)
        found.append((alike if temperature == 1 else alike.pow_(temperature)) @ weights.double())
    return torch.cat(found)
