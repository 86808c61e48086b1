"""Mahalanobis distance to the nearest class mean (Lee et al., NeurIPS 2018)."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from .arrays import Array, Labels, to_array, to_labels


@dataclass(frozen=True)
class MahalanobisFit:
    """Means (P, D) of the P classes present, and the shrunk within-class covariance (D, D)."""

    classes: Labels
    means: Array
    covariance: Array
    shrinkage: float


def oas_shrinkage(covariance: Array, n: int) -> float:
    """Oracle approximating shrinkage weight, Chen et al. (2010), eq. 23, as scikit-learn has it.

    (tr(S²) + tr(S)²) / ((n + 1)(tr(S²) - tr(S)²/D)), at most 1; the paper's factor 2/D is left out,
    and `mean(S²)` stands for tr(S²)/D². `n` is the number of samples.
    """
    d = len(covariance)
    if d == 1:
        return 0.0
    squares = 0.0
    trace = 0.0
    for i in range(d):
        trace += covariance[i, i]
        for j in range(d):
            squares += covariance[i, j] ** 2
    mean_square = squares / d**2
    mean_variance = trace / d
    denominator = (n + 1) * (mean_square - mean_variance**2 / d)
    if denominator == 0:
        return 1.0
    return min((mean_square + mean_variance**2) / denominator, 1.0)


def mahalanobis_fit(h: Any, y: Any, shrinkage: float | str = "oas") -> MahalanobisFit:
    """Class means and one covariance shared by all classes, from features (N, D) and labels (N,).

    Σ = (1/N) Σ_n (h_n - μ_{y_n})(h_n - μ_{y_n})ᵀ, then (1 - s)Σ + s·(tr Σ / D)·I with s =
    `shrinkage` or, for "oas", the weight of `oas_shrinkage`. Absent classes are left out.
    """
    h, y = to_array(h), to_labels(y)
    n, d = h.shape
    classes = np.unique(y)
    means = np.zeros((len(classes), d))
    for i, c in enumerate(classes):
        count = 0
        for row, label in zip(h, y, strict=True):
            if label == c:
                means[i] += row
                count += 1
        means[i] /= count
    scatter = np.zeros((d, d))
    for row, label in zip(h, y, strict=True):
        centered = row - means[classes.tolist().index(label)]
        for a in range(d):
            for b in range(d):
                scatter[a, b] += centered[a] * centered[b]
    covariance = scatter / n
    weight = oas_shrinkage(covariance, n) if shrinkage == "oas" else float(shrinkage)
    target = np.trace(covariance) / d * np.eye(d)
    return MahalanobisFit(classes, means, (1 - weight) * covariance + weight * target, weight)


def mahalanobis(h: Any, fit: MahalanobisFit) -> Array:
    """min_c (h - μ_c)ᵀ Σ⁻¹ (h - μ_c), squared distance, with the inverse written out."""
    h = to_array(h)
    precision = np.linalg.inv(fit.covariance)
    scores = np.empty(len(h))
    for n in range(len(h)):
        distances = []
        for mean in fit.means:
            centered = h[n] - mean
            distances.append(float(centered @ precision @ centered))
        scores[n] = min(distances)
    return scores
