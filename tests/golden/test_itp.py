"""ITP against its formula (2412.12566, and the authors' iterate_data_ours)."""

import math

import numpy as np
import pytest
import torch
from naive.arrays import Array, to_array, to_labels
from naive.logits import energy
from package import NAMES, same, setting

import gradood


def itp(given, percentile: float, deviations: float, fewest: int = 10) -> Array:
    """Contributions of trained weight, and below the class's own range, are kept."""
    fit, labels = to_array(given.features(given.fit_x)), to_labels(given.fit_y)
    W, b = to_array(given.weight), to_array(given.bias)
    classes, width = W.shape
    seen = sorted(set(labels.tolist()))
    groups = {k: fit[labels == k] for k in seen}
    mean = {k: rows.mean(0) for k, rows in groups.items()}
    within = np.zeros(width)
    for k, rows in groups.items():
        for row in rows:
            within += (row - mean[k]) ** 2
    left = len(fit) - len(seen)
    pooled = np.sqrt(within / left) if left > 0 else fit.std(0, ddof=1)
    mu, sigma = np.empty((classes, width)), np.empty((classes, width))
    for k in range(classes):
        rows = groups.get(k, fit[:0])
        center = mean[k] if k in groups else fit.mean(0)
        spread = rows.std(0, ddof=1) if len(rows) >= fewest else pooled
        for d in range(width):
            mu[k, d] = W[k, d] * center[d]
            sigma[k, d] = abs(W[k, d]) * spread[d]
    threshold = np.percentile(mu, percentile)
    logits = []
    for h in to_array(given.features(given.x)):
        z = []
        for k in range(classes):
            kept = [
                W[k, d] * h[d]
                for d in range(width)
                if mu[k, d] > threshold and W[k, d] * h[d] < mu[k, d] + deviations * sigma[k, d]
            ]
            z.append(math.fsum(kept) + b[k])
        logits.append(z)
    return energy(np.array(logits))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("percentile", "deviations"), [(30, 2.2), (10, 2.2), (0, 0.5), (60, 1.0)])
def test_itp_is_its_formula(name, percentile, deviations):
    """At 40 samples of 5 classes all classes are rare; at 160 they are not."""
    detector = gradood.ITP(percentile=percentile, deviations=deviations)
    given = setting(name)
    same(given.scores(detector, fit=True), itp(given, percentile, deviations))


@pytest.mark.parametrize("name", ["mlp_bn", "plain_cnn"])
def test_itp_of_classes_with_samples_enough(name):
    given = setting(name, fit=170)
    assert int(torch.bincount(given.fit_y).max()) >= 10
    same(given.scores(gradood.ITP(), fit=True), itp(given, 30, 2.2))
