"""SHE (Zhang et al., ICLR 2023) and NCI (Liu & Qin, CVPR 2025)."""

import math
from typing import Any

import numpy as np

from .arrays import Array, to_array, to_labels


def largest(row: Array) -> int:
    """The first index of the largest entry."""
    best = 0
    for c in range(len(row)):
        if row[c] > row[best]:
            best = c
    return best


def she(h: Any, z: Any, fit: Any, fit_z: Any, fit_y: Any, similarity: str = "inner") -> Array:
    """-h·S_ĉ with S_c the mean of the fit features of class c that are predicted as c.

    A class without any takes the mean over those of all classes. Or ‖h - S_ĉ‖, or minus the cosine.
    """
    h, z = to_array(h), to_array(z)
    fit, fit_z, fit_y = to_array(fit), to_array(fit_z), to_labels(fit_y)
    right = [n for n in range(len(fit)) if largest(fit_z[n]) == fit_y[n]]
    scores = np.empty(len(h))
    for n in range(len(h)):
        predicted = largest(z[n])
        rows = [fit[m] for m in right if fit_y[m] == predicted] or [fit[m] for m in right]
        pattern = sum(rows[1:], rows[0]) / len(rows)
        inner = sum(float(a) * float(b) for a, b in zip(h[n], pattern, strict=True))
        lengths = [math.sqrt(sum(float(v) ** 2 for v in vector)) for vector in (h[n], pattern)]
        gap = math.sqrt(sum((float(a) - float(b)) ** 2 for a, b in zip(h[n], pattern, strict=True)))
        cosine = inner / (lengths[0] * lengths[1])
        scores[n] = {"inner": -inner, "cosine": -cosine, "euclidean": gap}[similarity]
    return scores


def nci(h: Any, z: Any, weight: Any, fit: Any, alpha: float) -> Array:
    """-(w_ĉ·(h - μ)/‖h - μ‖₂ + α‖h‖₁)."""
    h, z, weight, fit = to_array(h), to_array(z), to_array(weight), to_array(fit)
    mean = np.zeros(h.shape[1])
    for row in fit:
        mean += row / len(fit)
    scores = np.empty(len(h))
    for n in range(len(h)):
        centered = h[n] - mean
        length = math.sqrt(sum(float(value) ** 2 for value in centered))
        near = sum(
            float(a) * float(b) for a, b in zip(weight[largest(z[n])], centered, strict=True)
        )
        scores[n] = -(near / length + alpha * sum(abs(float(value)) for value in h[n]))
    return scores
