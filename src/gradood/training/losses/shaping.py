"""Intermediate tensor shaping: the head learns more from samples whose features are spread."""

import torch
import torch.nn.functional as F
from torch import Tensor

from gradood.functional.shaping import kept_count

__all__ = ["shaped_features", "with_shaped_gradient"]

_LARGEST = 80.0
"""Of a ratio, so that its exponential is finite in float32."""


def shaped_features(features: Tensor, *, percentile: float, pruned: bool) -> Tensor:
    """``h · exp(Σ_d h_d / Σ_{d kept} |h_d|)``, of the kept units alone if pruned [xu2024scale].

    Args:
        features: (batch, width) h, without graph.
        percentile: share of units that are not among the largest by size, 0 to below 100.
        pruned: whether the others are set to zero, as released.

    Returns:
        (batch, width); a row of zeros stays zero.
    """
    size = features.abs()
    top = size.topk(kept_count(features.shape[1], float(percentile)), dim=1)
    kept = top.values.sum(1, keepdim=True)
    ratio = features.sum(1, keepdim=True) / torch.where(kept > 0, kept, 1.0)
    if pruned:
        mask = torch.zeros_like(features).scatter_(1, top.indices, 1.0)
        features = features * mask
    return features * ratio.clamp_max(_LARGEST).exp()


def with_shaped_gradient(
    logits: Tensor, features: Tensor, weight: Tensor, *, percentile: float, pruned: bool
) -> Tensor:
    """The logits as they are, whose gradient reaches the head's weight through shaped features.

    ``∂L/∂W = Σ_n ∂L/∂z_n · shaped(h_n)ᵀ`` in place of ``Σ_n ∂L/∂z_n · h_nᵀ``; the gradients of the
    bias and of the features are those of the head.

    Args:
        logits: (batch, classes) of the model, with their graph.
        features: (batch, width) that the head took.
        weight: (classes, width) of the head.
        percentile: as for `shaped_features`.
        pruned: as for `shaped_features`.
    """
    plain = features.detach()
    change = shaped_features(plain, percentile=percentile, pruned=pruned) - plain
    added = F.linear(change.to(weight), weight).to(logits)
    return logits + (added - added.detach())
