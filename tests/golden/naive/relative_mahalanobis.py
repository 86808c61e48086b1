"""Mahalanobis++ (Mueller & Hein, ICML 2025), and relative distances (Ren et al., 2021)."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from .arrays import Array, to_array
from .mahalanobis import MahalanobisFit, mahalanobis, mahalanobis_fit, oas_shrinkage


def normalized(h: Any) -> Array:
    """Each row divided by its Euclidean norm; a zero row as it is."""
    h = to_array(h).copy()
    for row in h:
        length = math.sqrt(sum(float(value) ** 2 for value in row))
        if length > 0:
            for d in range(len(row)):
                row[d] /= length
    return h


@dataclass(frozen=True)
class RelativeFit:
    """The class Gaussians, and mean (D,) and shrunk covariance (D, D) of all samples."""

    classes: MahalanobisFit
    mean: Array
    covariance: Array


def relative_fit(h: Any, y: Any) -> RelativeFit:
    """`mahalanobis_fit`, and Σ₀ = (1/N) Σ_n (h_n - μ₀)(h_n - μ₀)ᵀ, shrunk in the same way."""
    h = to_array(h)
    n, d = h.shape
    mean = np.zeros(d)
    for row in h:
        mean += row / n
    covariance = np.zeros((d, d))
    for row in h:
        for a in range(d):
            for b in range(d):
                covariance[a, b] += (row[a] - mean[a]) * (row[b] - mean[b]) / n
    weight = oas_shrinkage(covariance, n)
    shrunk = (1 - weight) * covariance + weight * np.trace(covariance) / d * np.eye(d)
    return RelativeFit(mahalanobis_fit(h, y), mean, shrunk)


def relative(h: Any, fit: RelativeFit) -> Array:
    """min_c d_c(h) - d₀(h), both squared distances."""
    h = to_array(h)
    nearest = mahalanobis(h, fit.classes)
    precision = np.linalg.inv(fit.covariance)
    scores = np.empty(len(h))
    for n in range(len(h)):
        centered = h[n] - fit.mean
        scores[n] = nearest[n] - float(centered @ precision @ centered)
    return scores
