"""Piecewise constant shaping of features by what each range contributes [zhao2024optfs]."""

from math import ceil, floor

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

__all__ = ["bin_contributions", "pooled_quantile", "stepwise"]

_ROWS = 1 << 12


def pooled_quantile(values: Tensor, share: float) -> float:
    """A quantile of all entries together, linear between them, in float64.

    Args:
        values: any shape, not empty, finite.
        share: from 0 to 1.
    """
    flat = values.detach().cpu().numpy().ravel()
    place = share * (flat.size - 1)
    low, high = floor(place), ceil(place)
    chosen = np.partition(flat, sorted({low, high}))
    return float(chosen[low]) + (float(chosen[high]) - float(chosen[low])) * (place - low)


def bin_contributions(
    features: Float[Tensor, "rows width"],
    weights: Float[Tensor, "classes width"],
    predicted: Int[Tensor, " rows"],
    edges: tuple[float, float, int],
) -> Float[Tensor, " bins"]:
    """``I_j = mean_i Σ_{d: h_id in bin j} W_{ŷ_i d} h_id``, in float64.

    Args:
        features: h.
        weights: W.
        predicted: ŷ.
        edges: lowest and highest value of the bins, which are equally wide, and how many.
    """
    # In order on the CPU, as sums by index have no deterministic version on CUDA.
    rows, table, chosen = features.cpu(), weights.double().cpu(), predicted.cpu()
    total = np.zeros(edges[2] + 1)
    for start in range(0, len(rows), _ROWS):
        part = rows[start : start + _ROWS].double()
        index = _bins(part, *edges).numpy().ravel()
        products = (part * table[chosen[start : start + _ROWS]]).numpy().ravel()
        total += np.bincount(index, products, minlength=len(total))
    return torch.from_numpy(total[:-1] / len(rows)).to(features.device)


def stepwise(
    features: Float[Tensor, "batch width"], theta: Float[Tensor, " bins"], low: float, high: float
) -> Float[Tensor, "batch width"]:
    """``θ_j · h`` for h in bin j, and zero outside of all bins, in float64.

    Args:
        features: h.
        theta: one factor for each of the equally wide bins.
        low: where the first begins.
        high: where the last ends.
    """
    wide = features.double()
    factors = torch.cat([theta, theta.new_zeros(1)])
    found = _bins(wide, low, high, len(theta))
    # Infinity times zero is no number.
    return torch.where(found < len(theta), factors[found] * wide, 0.0)


def _bins(values: Tensor, low: float, high: float, count: int) -> Tensor:
    """Index of each value's bin; `count` for those in none."""
    place = ((values - low) / ((high - low) / count)).floor()
    return torch.where((place >= 0) & (place < count), place, float(count)).long()
