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


def she(h: Any, z: Any, fit: Any, fit_z: Any, fit_y: Any) -> Array:
    """-h·S_ĉ with S_c the mean of the fit features of class c that are predicted as c.

    A class without any takes the mean over those of all classes.
    """
    h, z = to_array(h), to_array(z)
    fit, fit_z, fit_y = to_array(fit), to_array(fit_z), to_labels(fit_y)
    right = [n for n in range(len(fit)) if largest(fit_z[n]) == fit_y[n]]
    scores = np.empty(len(h))
    for n in range(len(h)):
        predicted = largest(z[n])
        rows = [fit[m] for m in right if fit_y[m] == predicted] or [fit[m] for m in right]
        pattern = sum(rows[1:], rows[0]) / len(rows)
        scores[n] = -sum(float(a) * float(b) for a, b in zip(h[n], pattern, strict=True))
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
