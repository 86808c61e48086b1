"""Scores read off the logits: maximum softmax probability, maximum logit, free energy."""

import math
from typing import Any

import numpy as np

from .arrays import Array, to_array


def _logsumexp(row: Array) -> float:
    """log Σ_c exp(row_c), shifted by the largest entry."""
    top = max(float(value) for value in row)
    return top + math.log(sum(math.exp(float(value) - top) for value in row))


def msp(z: Any) -> Array:
    """Negative maximum softmax probability, -max_c softmax(z)_c (Hendrycks & Gimpel, ICLR 2017)."""
    z = to_array(z)
    scores = np.empty(len(z))
    for n in range(len(z)):
        total = _logsumexp(z[n])
        scores[n] = -max(math.exp(float(value) - total) for value in z[n])
    return scores


def max_logit(z: Any) -> Array:
    """Negative maximum logit, -max_c z_c (Hendrycks et al., ICML 2022)."""
    z = to_array(z)
    scores = np.empty(len(z))
    for n in range(len(z)):
        scores[n] = -max(float(value) for value in z[n])
    return scores


def energy(z: Any, temperature: float = 1.0) -> Array:
    """Free energy -T·logsumexp(z/T) (Liu et al., NeurIPS 2020)."""
    z = to_array(z)
    scores = np.empty(len(z))
    for n in range(len(z)):
        scores[n] = -temperature * _logsumexp(z[n] / temperature)
    return scores
