"""OpenMax (Bendale & Boult, CVPR 2016), as released: logits revised class by class."""

import math
from typing import Any

import numpy as np

from .arrays import Array, to_array, to_labels

TRANSLATION = 10_000.0


def distance(a: Array, b: Array, kind: str) -> float:
    euclidean = math.sqrt(math.fsum(float(u - v) ** 2 for u, v in zip(a, b, strict=True)))
    if kind == "euclidean":
        return euclidean
    dot = math.fsum(float(u * v) for u, v in zip(a, b, strict=True))
    lengths = math.sqrt(math.fsum(float(u) ** 2 for u in a) * math.fsum(float(v) ** 2 for v in b))
    cosine = 1.0 - dot / lengths
    return cosine if kind == "cosine" else euclidean / 200.0 + cosine


def weibull(tail: list[float], translation: float = TRANSLATION) -> tuple[float, float]:
    """Shape k and log of the scale, of d − min d + t, by Newton's method on the likelihood.

    x^k overflows for shapes as large as these have, so powers are relative to the largest x.
    """
    logs = [math.log(d - min(tail) + translation) for d in tail]
    top, mean = max(logs), math.fsum(logs) / len(logs)
    k = 1.0 / (top - mean)
    for _ in range(200):
        powers = [math.exp(k * (value - top)) for value in logs]
        total = math.fsum(powers)
        first = math.fsum(p * (v - top) for p, v in zip(powers, logs, strict=True)) / total
        second = math.fsum(p * (v - top) ** 2 for p, v in zip(powers, logs, strict=True)) / total
        slope = 1.0 / k + (mean - top) - first
        k -= slope / (-1.0 / k**2 - (second - first**2))
    total = math.fsum(math.exp(k * (value - top)) for value in logs)
    return k, top + math.log(total / len(logs)) / k


def openmax(
    z: Any,
    fit_z: Any,
    fit_y: Any,
    tailsize: int | None,
    alpha: int,
    kind: str,
    correct: bool,
    translation: float = TRANSLATION,
) -> Array:
    """Log-odds of the unknown class; without a tail size, 2 % of the class, from 3 to 20."""
    z, fit_z, fit_y = to_array(z), to_array(fit_z), to_labels(fit_y)
    classes = z.shape[1]
    alpha = min(alpha, classes)
    models: dict[int, tuple[Array, float, float, float]] = {}
    for c in range(classes):
        own = [
            row
            for row, label in zip(fit_z, fit_y, strict=True)
            if label == c and (not correct or int(np.argmax(row)) == c)
        ]
        if len(own) < 3:
            continue
        center = np.array(
            [math.fsum(float(row[d]) for row in own) / len(own) for d in range(classes)]
        )
        count = tailsize or min(20, max(3, len(own) * 2 // 100))
        tail = sorted(distance(row, center, kind) for row in own)[-count:]
        models[c] = (center, min(tail), *weibull(tail, translation))
    scores = np.empty(len(z))
    for n in range(len(z)):
        ranked = sorted(range(classes), key=lambda c: (-z[n][c], c))
        revised, unknown = [float(v) for v in z[n]], []
        for i, c in enumerate(ranked[:alpha], start=1):
            w = 1.0
            if c in models:
                center, smallest, k, log_scale = models[c]
                x = distance(z[n], center, kind) - smallest + translation
                w = 1.0 - math.exp(-math.exp(k * (math.log(x) - log_scale)))
            weight = ((alpha + 1) - i) / alpha
            revised[c] = float(z[n][c]) * (1.0 - w * weight)
            unknown.append(float(z[n][c]) - revised[c])
        top = max(revised)
        scores[n] = (
            math.fsum(unknown) - top - math.log(math.fsum(math.exp(v - top) for v in revised))
        )
    return scores
