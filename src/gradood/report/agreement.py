"""How alike methods rank the same images."""

from collections.abc import Mapping
from typing import Any

import numpy as np

__all__ = ["agreement"]


def agreement(pooled: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Spearman's rank correlation between every two methods; ties share their mean rank.

    Args:
        pooled: (n,) scores of the same images by method.

    Returns:
        ``methods``, those alike beside one another (by the angle in the plane of the two leading
        eigenvectors), and ``rho``, in hundredths, None where all scores of a method are equal.

    Cost: a sort per method, and one product of (methods, n).
    """
    names = list(pooled)
    ranks = np.stack([_ranks(pooled[name]) for name in names])
    centered = ranks - ranks.mean(1, keepdims=True)
    length = np.linalg.norm(centered, axis=1)
    constant = length == 0
    unit = centered / np.where(constant, 1, length)[:, None]
    rho = np.clip(unit @ unit.T, -1, 1)
    order = _order(rho)
    return {
        "methods": [names[i] for i in order],
        "rho": [
            [None if constant[i] or constant[j] else round(100 * float(rho[i, j])) for j in order]
            for i in order
        ],
    }


def _ranks(scores: np.ndarray) -> np.ndarray:
    _, at, count = np.unique(scores, return_inverse=True, return_counts=True)
    return (np.cumsum(count) - (count - 1) / 2)[at]


def _order(rho: np.ndarray) -> list[int]:
    """Round the circle of the two leading eigenvectors, opened at the widest gap."""
    if len(rho) < 3:
        return list(range(len(rho)))
    _, vectors = np.linalg.eigh(rho)
    angle = np.arctan2(vectors[:, -2], vectors[:, -1])
    circle = np.argsort(angle, kind="stable")
    gaps = np.diff(angle[circle], append=angle[circle[0]] + 2 * np.pi)
    return [int(i) for i in np.roll(circle, -int(np.argmax(gaps)) - 1)]
