"""Distance to the k-th nearest feature of a bank (Sun et al., ICML 2022)."""

import math
from typing import Any

import numpy as np

from .arrays import Array, to_array


def _unit(row: Array) -> Array:
    """`row` divided by its Euclidean length; a zero row stays zero."""
    length = math.hypot(*row.tolist())
    return row / length if length > 0 else row


def knn(h: Any, bank: Any, k: int = 1, normalize: bool = True) -> Array:
    """Euclidean distance from each row of `h` (N, D) to its k-th nearest row of `bank` (M, D).

    `k` counts from one. With `normalize` both sides are first divided by their Euclidean length.
    """
    h, bank = to_array(h), to_array(bank)
    if not 1 <= k <= len(bank):
        raise ValueError(f"k={k} for a bank of {len(bank)} rows")
    scores = np.empty(len(h))
    for n in range(len(h)):
        query = _unit(h[n]) if normalize else h[n]
        distances = []
        for m in range(len(bank)):
            row = _unit(bank[m]) if normalize else bank[m]
            distances.append(math.dist(query.tolist(), row.tolist()))
        scores[n] = sorted(distances)[k - 1]
    return scores
