"""Upper confidence bounds on the tail probabilities beyond order statistics."""

import math
from functools import lru_cache

import numpy as np

from gradood.watch._cells import Vector

__all__ = ["tail_bounds"]

_HALVINGS = 60


def tail_bounds(samples: int, ranks: Vector, risk: float) -> Vector:
    """For each rank k a bound on the probability that a new score exceeds the k-th largest of n.

    That probability is, over calibration sets, at most Beta(k, n + 1 − k) in distribution, whatever
    the distribution of scores and with ties; the bound is its quantile at 1 − risk, where

        P(Bin(n, b) < k) = risk.

    Args:
        samples: n.
        ranks: (K − 1,) from 1 to n.
        risk: probability that one bound does not hold.

    Returns:
        (K − 1,) float64, rounded up.

    Cost:
        O(K √n) sums; some 0.1 s for n = 10⁵.
    """
    return np.array([_quantile(samples, int(rank), risk) for rank in ranks])


@lru_cache(4096)
def _quantile(n: int, k: int, risk: float) -> float:
    low, high = k / (n + 1) * 0.5, 1.0
    steps = np.arange(k - 1, max(0, k - 1 - int(40 * math.sqrt(k) + 60)), -1, dtype=np.float64)
    ratios = steps / (n - steps + 1)
    logs = math.lgamma(n + 1) - math.lgamma(k) - math.lgamma(n - k + 2)
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        if not low < middle < high:
            break
        if _below(n, k, middle, ratios, logs) > risk:
            low = middle
        else:
            high = middle
    return min(1.0, high * (1 + 1e-9))  # The log-gammas are exact to about 1e-9.


def _below(n: int, k: int, p: float, ratios: Vector, logs: float) -> float:
    """P(Bin(n, p) < k): its largest term, for i = k − 1, times the sum of their ratios to it."""
    first = logs + (k - 1) * math.log(p) + (n - k + 1) * math.log1p(-p)
    if k > n * p + 1:  # Far from the quantile, where terms rise before they fall.
        return 1.0
    total = 1.0 + float(np.cumprod(ratios * ((1 - p) / p)).sum())
    return math.exp(min(0.0, first)) * total
