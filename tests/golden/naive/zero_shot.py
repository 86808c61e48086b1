"""MCM, GL-MCM and NegLabel with loops over images, positions and labels."""

import math
from typing import Any

import numpy as np

from .arrays import Array, to_array


def cosine(a: Array, b: Array) -> float:
    dot = sum(float(x) * float(y) for x, y in zip(a, b, strict=True))
    return dot / math.sqrt(sum(float(x) ** 2 for x in a)) / math.sqrt(sum(float(y) ** 2 for y in b))


def softmax(values: list[float], temperature: float) -> list[float]:
    powers = [math.exp((v - max(values)) / temperature) for v in values]
    return [p / sum(powers) for p in powers]


def mcm(images: Any, texts: Any, temperature: float = 1.0) -> Array:
    """−max_c softmax(s / τ)_c (Ming et al. 2022, arXiv 2211.13445, eq. 2)."""
    scores = []
    for image in to_array(images):
        similar = [cosine(image, text) for text in to_array(texts)]
        scores.append(-max(softmax(similar, temperature)))
    return np.array(scores)


def gl_mcm(
    images: Any, local: Any, texts: Any, temperature: float = 1.0, weight: float = 1.0
) -> Array:
    """MCM plus λ times that of the best position (Miyai et al., arXiv 2304.04521, eqs. 4 to 6)."""
    scores = []
    for whole, positions in zip(mcm(images, texts, temperature), to_array(local), strict=True):
        scores.append(whole + weight * min(mcm(positions, texts, temperature)))
    return np.array(scores)


def neg_label(images: Any, texts: Any, groups: list[Any], temperature: float = 0.01) -> Array:
    """−mean over groups of the positive share (Jiang et al. 2024, arXiv 2403.20078, eqs. 4, 7)."""
    scores = []
    for image in to_array(images):
        known = [cosine(image, text) for text in to_array(texts)]
        shares = []
        for group in groups:
            every = known + [cosine(image, text) for text in to_array(group)]
            shares.append(sum(softmax(every, temperature)[: len(known)]))
        scores.append(-sum(shares) / len(shares))
    return np.array(scores)
