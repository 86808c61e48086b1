"""Scores of softmax probabilities beyond the largest: entropies, templates, a temperature."""

import math
from typing import Any

import numpy as np

from .arrays import Array, to_array, to_labels


def posterior(row: Array) -> list[float]:
    """softmax(row)."""
    top = max(float(value) for value in row)
    weights = [math.exp(float(value) - top) for value in row]
    total = math.fsum(weights)
    return [weight / total for weight in weights]


def complement(row: Array, c: int) -> float:
    """1 − softmax(row)_c, as the sum of all others."""
    p = posterior(row)
    return math.fsum(p[other] for other in range(len(p)) if other != c)


def entropy(z: Any) -> Array:
    """−Σ p log p; log p of a probability above a half as log1p(−(1 − p))."""
    z = to_array(z)
    scores = np.empty(len(z))
    for n in range(len(z)):
        terms = []
        for c, p in enumerate(posterior(z[n])):
            if p > 0.5:
                terms.append(-p * math.log1p(-complement(z[n], c)))
            elif p > 0:
                terms.append(-p * math.log(p))
        scores[n] = math.fsum(terms)
    return scores


def gen(z: Any, gamma: float, M: int) -> Array:
    """Σ p^γ (1 − p)^γ over the M largest p (Liu, Lochman & Zach, CVPR 2023)."""
    z = to_array(z)
    scores = np.empty(len(z))
    for n in range(len(z)):
        pairs = [(p, complement(z[n], c)) for c, p in enumerate(posterior(z[n]))]
        pairs.sort(key=lambda pair: -pair[0])
        scores[n] = math.fsum(p**gamma * rest**gamma for p, rest in pairs[:M])
    return scores


def templates(z: Any) -> dict[int, list[float]]:
    """Mean posterior of the samples predicted as each class that is predicted at all."""
    z = to_array(z)
    found: dict[int, list[list[float]]] = {}
    for row in z:
        found.setdefault(int(np.argmax(row)), []).append(posterior(row))
    return {
        k: [math.fsum(p[c] for p in all_p) / len(all_p) for c in range(z.shape[1])]
        for k, all_p in found.items()
    }


def kl_matching(z: Any, fit_z: Any) -> Array:
    """min_k KL(p ‖ d_k) (Hendrycks et al., ICML 2022)."""
    z, known = to_array(z), templates(fit_z)
    scores = np.empty(len(z))
    for n in range(len(z)):
        p = posterior(z[n])
        scores[n] = min(
            math.fsum(p[c] * math.log(p[c] / d[c]) for c in range(len(p)) if p[c] > 0)
            for d in known.values()
        )
    return scores


def negative_log_likelihood(z: Any, y: Any, temperature: float) -> float:
    """−Σ log softmax(z / T)_y (Guo et al., ICML 2017)."""
    z, y = to_array(z), to_labels(y)
    total = []
    for n in range(len(z)):
        row = [float(value) / temperature for value in z[n]]
        top = max(row)
        total.append(top + math.log(math.fsum(math.exp(v - top) for v in row)) - row[y[n]])
    return math.fsum(total)
