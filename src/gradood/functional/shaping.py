"""Activation shaping: features, weights or logits changed so that known inputs stand out."""

from math import ceil, floor

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

__all__ = [
    "binarized",
    "contribution_mask",
    "kept_count",
    "logit_scale",
    "pruned",
    "rectified",
    "scaled",
    "sharpened",
    "stretched",
    "top_units",
    "unit_quantiles",
]


_LARGEST = 500.0
"""Of a ratio, so that its exponential is finite; reached where 1 in 500 units or fewer are kept."""


def kept_count(width: int, percentile: float) -> int:
    """How many of `width` units are left when `percentile` of them are removed; at least one."""
    return max(1, width - round(width * percentile / 100.0))


def top_units(features: Float[Tensor, "batch width"], count: int) -> Bool[Tensor, "batch width"]:
    """The `count` largest units of each row; of equal ones, those of lower index."""
    least = features.topk(count, 1).values[:, -1:]
    above = features > least
    tied = features == least
    room = count - above.sum(1, keepdim=True)
    return above | (tied & (tied.cumsum(1) <= room))


def pruned(
    features: Float[Tensor, "batch width"], percentile: float
) -> Float[Tensor, "batch width"]:
    """ASH-P: all but the largest units are set to zero [djurisic2023ash]."""
    keep = top_units(features, kept_count(features.shape[1], percentile))
    return torch.where(keep, features, 0.0)


def binarized(
    features: Float[Tensor, "batch width"], percentile: float
) -> Float[Tensor, "batch width"]:
    """ASH-B: the largest units share the row's sum equally, the others are zero."""
    count = kept_count(features.shape[1], percentile)
    share = features.double().sum(1, keepdim=True) / count
    return torch.where(top_units(features, count), share, 0.0)


def sharpened(
    features: Float[Tensor, "batch width"], percentile: float
) -> Float[Tensor, "batch width"]:
    """ASH-S: the largest units, times the exponential of the row's sum over theirs."""
    count = kept_count(features.shape[1], percentile)
    factor = _stretch(features, count)
    return torch.where(top_units(features, count), features.double() * factor[:, None], 0.0)


def scaled(
    features: Float[Tensor, "batch width"], percentile: float
) -> Float[Tensor, "batch width"]:
    """SCALE: every unit, times the exponential of the row's sum over that of the largest units."""
    count = kept_count(features.shape[1], percentile)
    factor = _stretch(features, count)
    return features.double() * factor[:, None]


def logit_scale(
    features: Float[Tensor, "batch width"], percentile: float
) -> Float[Tensor, " batch"]:
    """LTS: the square of the sum of the positive units over that of the largest among them."""
    positive = features.clamp_min(0.0)
    return _ratio(positive, kept_count(features.shape[1], percentile)).square()


def stretched(features: Float[Tensor, "batch width"], percentile: float) -> Float[Tensor, " batch"]:
    """The factor by which `scaled` and `sharpened` multiply."""
    return _stretch(features, kept_count(features.shape[1], percentile))


def _stretch(features: Tensor, count: int) -> Tensor:
    """(batch,) the ratio's exponential, always finite."""
    return _ratio(features, count).clamp_max(_LARGEST).exp()


def _ratio(features: Tensor, count: int) -> Tensor:
    """Sum of each row over the sum of its `count` largest units.

    From 1 to width / count where no unit is negative. A row of zeros is left alone: 1. Where
    negative units outweigh the largest ones the limit is taken, −∞, whose exponential is 0.
    """
    wide = features.double()
    total, top = wide.sum(1), wide.topk(count, 1).values.sum(1)
    ratio = (total / torch.where(top > 0, top, 1.0)).clamp_max(features.shape[1] / count)
    blank = (total == 0) & (top == 0)
    return torch.where(top > 0, ratio, torch.where(blank, 1.0, -torch.inf))


def unit_quantiles(
    features: Float[Tensor, "batch width"], shares: tuple[float, ...]
) -> tuple[Float[Tensor, " width"], ...]:
    """Quantiles of each unit over the rows, in float64, linear between samples."""
    ordered = features.sort(0).values
    found: list[Tensor] = []
    for share in shares:
        place = share * (len(ordered) - 1)
        low, high = ordered[floor(place)].double(), ordered[ceil(place)].double()
        found.append(low + (high - low) * (place - floor(place)))
    return tuple(found)


def rectified(
    features: Float[Tensor, "batch width"],
    low: Float[Tensor, " width"],
    high: Float[Tensor, " width"],
    gamma: float,
) -> Float[Tensor, "batch width"]:
    """VRA: zero below `low`, `high` above it, and h + γ between [xu2023vra]."""
    between = torch.where(features > high, high, features.double() + gamma)
    return torch.where(features < low, 0.0, between)


def contribution_mask(
    mean: Float[Tensor, " width"], weight: Float[Tensor, "classes width"], percentile: float | None
) -> Bool[Tensor, "classes width"]:
    """DICE: the weights whose mean contribution ``W ⊙ h̄`` exceeds its percentile [sun2022dice].

    Without a percentile, those whose mean contribution is positive.

    Where none exceeds it, as the largest are equal, those are kept.
    """
    contribution = weight.double() * mean.double()
    threshold = 0.0
    if percentile is not None:
        threshold = float(np.percentile(contribution.cpu().numpy(), percentile))
    mask = contribution > threshold
    return mask if bool(mask.any()) else contribution >= contribution.max()
