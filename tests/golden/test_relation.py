"""Relation graphs against their formula (2301.12321, and the authors' get_relation)."""

import math

import numpy as np
import pytest
from naive.arrays import Array, to_array
from package import NAMES, same, setting

import gradood


def softmax(z: list[float]) -> list[float]:
    powers = [math.exp(v - max(z)) for v in z]
    return [p / sum(powers) for p in powers]


def direction(row: list[float]) -> list[float]:
    length = math.sqrt(math.fsum(v * v for v in row))
    return [v / length for v in row] if length else row


def kept_in_float32(rows: list[list[float]]) -> Array:
    return np.array(rows).astype(np.float32).astype(np.float64)


def relation(given, temperature: float, cut: float, balanced: bool) -> Array:
    """−Σ_i w_i edge_i^t, edge = max(0, cos) · (p · p_i) where above the cut."""
    unit = kept_in_float32([direction(r) for r in to_array(given.features(given.fit_x)).tolist()])
    p = kept_in_float32([softmax(z) for z in to_array(given.logits(given.fit_x)).tolist()])
    n, classes = p.shape
    weights = [1.0 / n] * n
    if balanced:
        totals = [math.fsum(p[:, c]) for c in range(classes)]
        weights = [
            math.fsum(p[i, c] / totals[c] for c in range(classes)) / classes for i in range(n)
        ]
    scores = []
    queries = to_array(given.features(given.x)).tolist(), to_array(given.logits(given.x)).tolist()
    for h, z in zip(*queries, strict=True):
        u, q = direction(h), softmax(z)
        total = 0.0
        for i in range(n):
            cosine = math.fsum(a * b for a, b in zip(u, unit[i], strict=True))
            edge = max(0.0, cosine) * math.fsum(a * b for a, b in zip(q, p[i], strict=True))
            total += weights[i] * edge**temperature if edge > cut else 0.0
        scores.append(-total)
    return np.array(scores)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("balanced", [True, False])
@pytest.mark.parametrize(("temperature", "cut"), [(1.0, 0.03), (2.5, 0.0), (4.0, 0.15)])
def test_relation_is_its_formula(name, balanced, temperature, cut):
    given = setting(name)
    detector = gradood.Relation(temperature=temperature, cut=cut, balanced=balanced)
    same(given.scores(detector, fit=True), relation(given, temperature, cut, balanced))
