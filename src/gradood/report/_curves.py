"""ROC curves and histograms, small enough to be drawn by the hundred."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from gradood.metrics._outlines import histogram_edges, roc_points
from gradood.metrics.counts import Counts

__all__ = ["agreement", "histogram", "roc", "threshold"]

_PERMILLE = 1000


def roc(known: np.ndarray, unknown: np.ndarray, points: int = 200) -> dict[str, list[int]]:
    """The share of outliers caught against that of known images flagged, in thousandths.

    A line between two points is exact where scores are tied, and elsewhere off by at most
    2/points: points are spread evenly along the curve, and those on a straight line dropped.

    Args:
        known: (n,) scores of in-distribution samples.
        unknown: (m,) scores of outliers.
        points: at most so many.

    Raises:
        DataError: a set is empty, not one-dimensional, not of real numbers, or holds NaN.
    """
    path = roc_points(Counts.of(known, unknown), points)
    whole = np.rint(_PERMILLE * path).astype(np.int64)
    step = np.diff(whole, axis=1)
    turns = step[0, 1:] * step[1, :-1] != step[1, 1:] * step[0, :-1]
    whole = whole[:, np.concatenate([[True], turns, [True]])]
    return {"flagged": whole[0].tolist(), "caught": whole[1].tolist()}


def histogram(known: np.ndarray, unknown: np.ndarray, bins: int = 40) -> dict[str, Any]:
    """Shares of both sets in the same bins, in thousandths of each set.

    The outermost bins hold all that lies beyond them, infinite scores too, so that a few extremes
    do not hide the rest.

    Args:
        known: (n,) scores of in-distribution samples.
        unknown: (m,) scores of outliers.
        bins: number of bars.
    """
    pooled = np.concatenate([known, unknown])
    edges = histogram_edges(pooled, bins)
    low, high = edges[0], edges[-1]
    shares = [
        np.histogram(np.clip(scores, low, high), edges)[0] / scores.size
        for scores in (known, unknown)
    ]
    known_bars, unknown_bars = ([round(_PERMILLE * s, 1) for s in bars] for bars in shares)
    return {
        "low": float(f"{low:.6g}"),
        "high": float(f"{high:.6g}"),
        "known": [_short(value) for value in known_bars],
        "unknown": [_short(value) for value in unknown_bars],
    }


def threshold(known: np.ndarray) -> float | None:
    """The smallest score that at least 95 % of the known images do not exceed; None if infinite."""
    ascending = np.sort(known)
    value = float(ascending[-(-95 * ascending.size // 100) - 1])
    return float(f"{value:.6g}") if np.isfinite(value) else None


def _short(value: float) -> float | int:
    """Without the ``.0`` that JSON would write."""
    return int(value) if value == int(value) else float(value)


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
