"""WeiPer and KLD against their formula (2405.17164, and the authors' weiper_kldiv/utils.py)."""

import math

import numpy as np
import pytest
from naive.arrays import Array, to_array
from package import NAMES, same, setting

import gradood


def density(values: list[float], low: float, high: float, bins: int) -> list[float]:
    """Share of all values in each bin; those outside are in none."""
    counts = [0] * bins
    for v in values:
        if low <= v <= high:
            counts[min(math.floor((v - low) / (high - low) * bins), bins - 1)] += 1
    return [count / len(values) for count in counts]


def smooth(q: list[float], size: int) -> list[float]:
    left = (size - 1) // 2
    padded = [q[0]] * left + q + [q[-1]] * (size - 1 - left)
    return [math.fsum(padded[j : j + size]) / size for j in range(len(q))]


def divergence(p: list[float], q: list[float], epsilon: float) -> float:
    """Symmetric, of what is raised by ε and sums to one."""
    p, q = ([v + epsilon for v in d] for d in (p, q))
    p, q = ([v / math.fsum(d) for v in d] for d in (p, q))
    return math.fsum((a - b) * (math.log(a) - math.log(b)) for a, b in zip(p, q, strict=True))


def parts(given, weight: Array, rows: Array, bins: int, smoothing: tuple[int, int]):
    """D_features, D_perturbed and MSP of each row."""
    bias, classes = to_array(given.bias), len(given.bias)
    repeats = len(weight) // classes

    def perturbed(h: Array) -> list[float]:
        return [math.fsum(w * h) + bias[i % classes] for i, w in enumerate(weight)]

    fit = to_array(given.features(given.fit_x))
    divergences = []
    for kind, size, epsilon in ((list, smoothing[0], 0.01), (perturbed, smoothing[1], 0.025)):
        known = [kind(h) for h in fit]
        low, high = min(map(min, known)), max(map(max, known))
        mean = np.mean([density(v, low, high, bins) for v in known], 0).tolist()
        seen = [smooth(density(kind(h), low, high, bins), size) for h in rows]
        divergences.append([divergence(mean, q, epsilon) for q in seen])
    confidence = []
    for h in rows:
        z = perturbed(h)
        tops = []
        for i in range(repeats):
            part = z[i * classes : (i + 1) * classes]
            tops.append(1.0 / math.fsum(math.exp(v - max(part)) for v in part))
        confidence.append(math.fsum(tops) / repeats)
    return (*map(np.array, divergences), np.array(confidence))


def fitted(given, **options):
    monitor = gradood.Monitor(given.network, gradood.WeiPerKLD(**options)).fit(given.fit_data)
    state = monitor.states["weiper-kld"]
    return monitor.score(given.x).numpy(), to_array(state["weight"]), state


@pytest.mark.parametrize("name", NAMES)
def test_weiper_kld_is_its_formula(name):
    given = setting(name)
    options = {"repeats": 3, "bins": 12, "smoothing": (4, 5), "weights": (2.5, 0.1)}
    scores, weight, _ = fitted(given, **options)
    rows = to_array(given.features(given.x))
    features, logits, confidence = parts(given, weight, rows, 12, (4, 5))
    same(scores, features + 2.5 * logits - 0.1 * confidence)


@pytest.mark.parametrize("name", ["mlp_bn", "plain_cnn"])
def test_the_automatic_weights_let_each_part_vary_as_much(name):
    given = setting(name)
    scores, weight, state = fitted(given, repeats=4, bins=10, smoothing=(2, 3))
    fit, rows = (to_array(given.features(x)) for x in (given.fit_x, given.x))
    spread = [np.std(part) for part in parts(given, weight, fit, 10, (2, 3))]
    expected = spread[0] / spread[1], 4 * spread[0] / spread[2]
    same(state["weights"], expected)
    features, logits, confidence = parts(given, weight, rows, 10, (2, 3))
    same(scores, features + expected[0] * logits - expected[1] * confidence, 1e-8)


@pytest.mark.parametrize("delta", [0.5, 1.8])
def test_rows_are_moved_by_a_share_of_their_length(delta):
    given = setting("mlp_bn")
    _, weight, _ = fitted(given, delta=delta, repeats=2, bins=10, smoothing=(2, 3))
    plain = to_array(given.weight)
    moved = np.linalg.norm(weight - np.tile(plain, (2, 1)), axis=1)
    same(moved, np.tile(delta * np.linalg.norm(plain, axis=1), 2), 1e-5)
