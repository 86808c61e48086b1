"""Ranked activation shift: features whose sorted values are replaced [guglielmo2026ras]."""

import torch
from jaxtyping import Float
from torch import Tensor

from gradood.evidence.tracing import tracing

__all__ = ["rank_shifted"]


def rank_shifted(
    features: Float[Tensor, "batch width"], profile: Float[Tensor, " width"]
) -> Float[Tensor, "batch width"]:
    """The k-th smallest unit of each row takes the k-th value of the profile, in float64.

    Units of equal value share the mean of the values of their places, so that the order of the
    units does not matter.

    Args:
        features: h.
        profile: ascending.

    Cost:
        One sort and two binary searches of each row.
    """
    # NaN is sorted last and found nowhere: clamped, it takes the last place.
    if tracing():
        own, others = features[:, :, None], features[:, None]
        first, after = (others < own).int().sum(2), (others <= own).int().sum(2)
    else:
        ordered = features.contiguous().sort(1).values
        first = torch.searchsorted(ordered, features.contiguous())
        after = torch.searchsorted(ordered, features.contiguous(), right=True)
    first = first.clamp_max(features.shape[1] - 1)
    after = torch.maximum(after, first + 1)
    sums = torch.cat([profile.new_zeros(1), profile.cumsum(0)])
    shared = (sums[after] - sums[first]) / (after - first)
    return torch.where(after - first == 1, profile[first], shared)
