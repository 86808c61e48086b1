"""What is drawn of scores: points of a ROC curve, and edges of the bars of a histogram."""

import numpy as np

from gradood.metrics.counts import Counts

__all__ = ["histogram_edges", "roc_points"]

_EDGE = 0.002
"""Share of the scores at either end that the outermost bars of a histogram gather."""


def roc_points(counts: Counts, points: int) -> np.ndarray:
    """(2, k) the share of ID samples flagged, and that of OOD samples, at falling thresholds.

    Args:
        counts: samples at each distinct score.
        points: at most so many, spread evenly along the curve.
    """
    x = np.concatenate([[0], np.cumsum(counts.inside[::-1])]) / counts.inside.sum()
    y = np.concatenate([[0], np.cumsum(counts.outside[::-1])]) / counts.outside.sum()
    path = np.stack([x, y])
    if path.shape[1] > points:
        along = path.sum(0)  # Grows at every step, from 0 to 2.
        at = np.searchsorted(along, np.linspace(0, 2, points))
        path = path[:, np.unique(np.minimum(at, along.size - 1))]
    return path


def histogram_edges(pooled: np.ndarray, bins: int) -> np.ndarray:
    """(bins + 1,) edges between which all but the extremes lie.

    Args:
        pooled: (n,) scores of all sets, infinite ones included.
        bins: number of bars.
    """
    finite = pooled[np.isfinite(pooled)]
    low, high = np.quantile(finite, [_EDGE, 1 - _EDGE]) if finite.size else (0.0, 1.0)
    if not high > low:
        # All alike: one bar in the middle of something that can be drawn.
        room = max(1.0, abs(low)) / 2
        low, high = low - room, high + room
    return np.linspace(low, high, bins + 1)
