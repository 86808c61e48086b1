"""Residual, ViM (Wang et al., CVPR 2022) and NECO (Ben Ammar et al., ICLR 2024)."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from .arrays import Array, to_array
from .logits import energy


def origin(weight: Any, bias: Any) -> Array:
    """The shortest o with W o = -b, or closest to it, by least squares."""
    solution: Array = np.linalg.lstsq(to_array(weight), -to_array(bias), rcond=None)[0]
    return solution


def eigenvectors(h: Array, start: Array) -> list[Array]:
    """Of (1/N) Σ_n (h_n - o)(h_n - o)ᵀ, largest eigenvalue first, as right singular vectors."""
    _, _, rows = np.linalg.svd(h - start, full_matrices=True)
    return list(rows)


def residual(h: Any, fit: Any, start: Any, dimension: int) -> Array:
    """‖h - o - Σ_{i ≤ D} ((h - o)·v_i) v_i‖₂: what the first D eigenvectors leave over."""
    h, fit, start = to_array(h), to_array(fit), to_array(start)
    principal = eigenvectors(fit, start)[:dimension]
    scores = np.empty(len(h))
    for n in range(len(h)):
        left = h[n] - start
        for vector in principal:
            left = left - float((h[n] - start) @ vector) * vector
        scores[n] = math.sqrt(sum(float(value) ** 2 for value in left))
    return scores


@dataclass(frozen=True)
class VirtualLogit:
    """What ViM scores with: the fit features, origin, dimension and α."""

    fit: Array
    start: Array
    dimension: int
    alpha: float


def vim_fit(fit: Any, weight: Any, bias: Any, dimension: int, rows: Any = None) -> VirtualLogit:
    """α = mean largest logit / mean residual, over all fit samples or the given rows of them."""
    fit, weight, bias = to_array(fit), to_array(weight), to_array(bias)
    start = origin(weight, bias)
    chosen = fit if rows is None else fit[np.asarray(rows)]
    lengths = residual(chosen, fit, start, dimension)
    peaks = [max(float(w @ h + b) for w, b in zip(weight, bias, strict=True)) for h in chosen]
    alpha = sum(peaks) / len(peaks) / (sum(float(x) for x in lengths) / len(lengths))
    return VirtualLogit(fit, start, dimension, alpha)


def vim(h: Any, weight: Any, bias: Any, fit: VirtualLogit) -> Array:
    """α·residual - logsumexp(z)."""
    h = to_array(h)
    z = h @ to_array(weight).T + to_array(bias)
    return fit.alpha * residual(h, fit.fit, fit.start, fit.dimension) + energy(z)


def neco(
    h: Any,
    fit: Any,
    dimension: int | None,
    *,
    classes: int,
    standardize: bool = True,
    logits: Any = None,
) -> Array:
    """-‖(z·v_1, …, z·v_d)‖ / ‖z‖, times the largest logit if logits are given.

    z = (h - μ)/σ with σ = 1 where it is 0 or not asked for; v the principal components of z, of
    which `None` takes one less than there are classes, or as many as explain 90 % of the variance
    if these are fewer, but not all.
    """
    h, fit = to_array(h), to_array(fit)
    mean = np.array([sum(float(x) for x in column) / len(column) for column in fit.T])
    scale = np.ones(len(mean))
    for d, column in enumerate(fit.T):
        variance = sum((float(x) - mean[d]) ** 2 for x in column) / len(column)
        if standardize and variance > 0:
            scale[d] = math.sqrt(variance)
    z_fit = (fit - mean) / scale
    components = eigenvectors(z_fit, np.zeros(len(mean)))
    if dimension is None:
        explained = [sum(float(row @ v) ** 2 for row in z_fit) for v in components]
        dimension, total = 0, 0.0
        while total < 0.9 * sum(explained):
            total += explained[dimension]
            dimension += 1
        dimension = min(dimension, classes - 1, len(mean) - 1)
    scores = np.empty(len(h))
    for n in range(len(h)):
        z = (h[n] - mean) / scale
        inside = math.sqrt(sum(float(z @ v) ** 2 for v in components[:dimension]))
        scores[n] = -inside / math.sqrt(float(z @ z))
        if logits is not None:
            scores[n] *= max(float(value) for value in to_array(logits)[n])
    return scores
