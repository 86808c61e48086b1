"""Activation shaping, one row and one unit at a time; then the head and the free energy."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from .arrays import Array, to_array
from .logits import energy


def head(h: Any, W: Any, b: Any | None) -> Array:
    """W h + b."""
    h, W = to_array(h), to_array(W)
    offset = np.zeros(len(W)) if b is None else to_array(b)
    z = np.empty((len(h), len(W)))
    for n in range(len(h)):
        for c in range(len(W)):
            products = (float(W[c, d]) * float(h[n, d]) for d in range(W.shape[1]))
            z[n, c] = math.fsum(products) + offset[c]
    return z


def kept(row: list[float], percentile: float) -> list[int]:
    """The largest units; of equal ones the first."""
    count = len(row) - int(np.round(len(row) * percentile / 100.0))
    return sorted(range(len(row)), key=lambda d: (-row[d], d))[: max(1, count)]


def ash_p(row: list[float], percentile: float) -> list[float]:
    """Djurisic et al., ICLR 2023."""
    keep = kept(row, percentile)
    return [row[d] if d in keep else 0.0 for d in range(len(row))]


def ash_b(row: list[float], percentile: float) -> list[float]:
    keep = kept(row, percentile)
    return [math.fsum(row) / len(keep) if d in keep else 0.0 for d in range(len(row))]


def ash_s(row: list[float], percentile: float) -> list[float]:
    keep = kept(row, percentile)
    factor = math.exp(math.fsum(row) / math.fsum(row[d] for d in keep))
    return [row[d] * factor if d in keep else 0.0 for d in range(len(row))]


def scale(row: list[float], percentile: float) -> list[float]:
    """Xu et al., ICLR 2024."""
    factor = math.exp(math.fsum(row) / math.fsum(row[d] for d in kept(row, percentile)))
    return [value * factor for value in row]


def lts_factor(row: list[float], percentile: float) -> float:
    """Djurisic et al., 2024; negative units count as zero."""
    row = [max(value, 0.0) for value in row]
    return (math.fsum(row) / math.fsum(row[d] for d in kept(row, percentile))) ** 2


def react(row: list[float], clip: float) -> list[float]:
    """Sun et al., NeurIPS 2021."""
    return [min(value, clip) for value in row]


def vra(row: list[float], low: Array, high: Array, gamma: float) -> list[float]:
    """Xu et al., NeurIPS 2023."""
    shaped = []
    for value, alpha, beta in zip(row, low, high, strict=True):
        if value < alpha:
            shaped.append(0.0)
        elif value > beta:
            shaped.append(float(beta))
        else:
            shaped.append(value + gamma)
    return shaped


def dice_weight(h: Any, W: Any, percentile: float) -> Array:
    """The head with its most contributing weights alone (Sun & Li, ECCV 2022)."""
    h, W = to_array(h), to_array(W)
    mean = [math.fsum(float(row[d]) for row in h) / len(h) for d in range(W.shape[1])]
    contribution = np.array([[float(w) * m for w, m in zip(row, mean, strict=True)] for row in W])
    threshold = np.percentile(contribution, percentile)
    return np.where(contribution > threshold, W, 0.0)


def shaped_energy(
    h: Any, W: Any, b: Any | None, shape: Callable[[list[float]], list[float]]
) -> Array:
    """Free energy of the head on shaped features."""
    rows = [shape([float(value) for value in row]) for row in to_array(h)]
    return energy(head(rows, W, b))
