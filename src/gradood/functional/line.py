"""Leveraging important neurons [ahn2023line]: pruning by class-wise contribution."""

from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from gradood.evidence.tracing import tracing
from gradood.functional.precision import full_products

__all__ = ["contributions", "pruned_logits", "pruning_thresholds"]


def contributions(
    mean: Float[Tensor, "classes width"],
    weight: Float[Tensor, "classes width"],
    kind: Literal["signed", "absolute"],
) -> Float[Tensor, "classes width"]:
    """First-order Taylor contribution ``S_c = h̄_c ⊙ W_c``, the Shapley value of a linear head.

    Args:
        mean: class means of h, or of |h| where `kind` is ``"absolute"``.
        weight: W.
        kind: signed as in the released code, or absolute as in the paper's text.
    """
    score = mean.double() * weight.double()
    return score.abs() if kind == "absolute" else score


def pruning_thresholds(
    contribution: Float[Tensor, "classes width"],
    weight: Float[Tensor, "classes width"],
    weight_percentile: float,
    activation_percentile: float,
) -> Float[Tensor, "classes width"]:
    """Both masks of every class in one number per class and unit.

    Unit d of class c keeps the weights ``W[:, d] > t[c, d]``. The percentile of ``|S_c| ⊙ W``
    cuts each column of W at one value, and t is the largest weight below that cut, so the
    comparison is exact in the weight's own precision; a unit pruned by activation keeps none.
    Where all values are equal, none stands out and none is pruned; where only the largest tie, so
    that none exceeds the percentile, all are, as in the released code.

    Args:
        contribution: S.
        weight: W (signed).
        weight_percentile: share of entries of ``|S_c| ⊙ W`` removed, in percent.
        activation_percentile: share of units removed, in percent.

    Returns:
        t, of the weight's dtype.

    Cost:
        classes · (classes · width) comparisons, once per fit; memory for two (classes, width).
    """
    strength = contribution.double().abs().cpu()
    signed = weight.double().cpu()
    kept = weight.cpu()
    thresholds = torch.full_like(kept, torch.inf)
    low = thresholds.new_tensor(-torch.inf)
    for c in range(len(contribution)):
        product = strength[c] * signed
        keep = _above(product, weight_percentile)
        active = _above(contribution[c].double().cpu(), activation_percentile)
        thresholds[c, active] = torch.where(keep, low, kept).amax(0)[active]
    return thresholds.to(weight.device)


def _above(values: Tensor, percent: float) -> Tensor:
    """Which values exceed their percentile; all of them where they are all equal."""
    if bool((values == values.flatten()[0]).all()):
        return torch.ones_like(values, dtype=torch.bool)
    return values > float(np.percentile(values.numpy(), percent))


def pruned_logits(
    features: Float[Tensor, "batch width"],
    weight: Float[Tensor, "classes width"],
    bias: Float[Tensor, " classes"] | None,
    thresholds: Float[Tensor, "classes width"],
    predicted: Int[Tensor, " batch"],
) -> Float[Tensor, "batch classes"]:
    """``(W ⊙ M_ĉ)(h ⊙ m_ĉ) + b`` per sample, one masked product per predicted class.

    Args:
        features: h, clipped.
        weight: W.
        bias: b.
        thresholds: from `pruning_thresholds`.
        predicted: ĉ.

    Cost:
        One (classes, width) buffer; classes · width operations per class present in the batch
        and per sample.
    """
    if tracing():
        kept = weight * (weight > thresholds[predicted][:, None])
        out = (kept * features[:, None]).sum(2)
        return out if bias is None else out + bias
    out = features.new_zeros(len(features), len(weight))
    buffer = torch.empty_like(weight)
    with full_products():
        for c in predicted.unique().tolist():
            rows = (predicted == c).nonzero()[:, 0]
            threshold = thresholds[c]
            active: Bool[Tensor, " width"] = threshold < torch.inf
            if 2 * int(active.sum()) < len(active):
                units = active.nonzero()[:, 0]
                part = weight[:, units]
                masked = part * (part > threshold[units])
                out[rows] = features[rows][:, units] @ masked.T
            else:
                masked = torch.mul(weight, weight > threshold, out=buffer)
                out[rows] = features[rows] @ masked.T
    return out if bias is None else out + bias
