"""Mahalanobis distance of radially scaled features (2510.15202: z / ‖z‖^β), by its definition."""

import math

import numpy as np
import pytest
from naive.arrays import Array, to_array, to_labels
from naive.mahalanobis import mahalanobis, mahalanobis_fit
from package import NAMES, same, setting

import gradood

BETAS = (0.0, 0.5, 1.0, 1.25, 1.5, 2.0)


def radial(rows: Array, beta: float) -> Array:
    out = []
    for row in rows.tolist():
        length = math.sqrt(math.fsum(v * v for v in row))
        out.append([v / length**beta if length else 0.0 for v in row])
    return np.array(out)


def effective_rank(rows: Array, labels) -> float:
    """exp of the entropy of the within-class scatter's spectrum."""
    scatter = np.zeros((rows.shape[1],) * 2)
    for k in np.unique(labels):
        centered = rows[labels == k] - rows[labels == k].mean(0)
        for row in centered:
            scatter += np.outer(row, row)
    share = np.linalg.eigvalsh(scatter)
    share = share[share > 0] / share[share > 0].sum()
    return math.exp(-math.fsum(s * math.log(s) for s in share.tolist()))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("beta", [0.0, 0.7, 1.0, 2.0])
def test_radial_mahalanobis_is_its_formula(name, beta):
    given = setting(name)
    fit, h = (radial(to_array(given.features(x)), beta) for x in (given.fit_x, given.x))
    expected = mahalanobis(h, mahalanobis_fit(fit, given.fit_y))
    same(given.scores(gradood.RadialMahalanobis(beta=beta), fit=True), expected)


@pytest.mark.parametrize("name", NAMES)
def test_the_automatic_exponent_spreads_the_classes_over_most_directions(name):
    given = setting(name)
    fit, labels = to_array(given.features(given.fit_x)), to_labels(given.fit_y)
    ranks = [effective_rank(radial(fit, beta), labels) for beta in BETAS]
    monitor = gradood.Monitor(given.network, gradood.RadialMahalanobis()).fit(given.fit_data)
    chosen = float(monitor.states["radial-mahalanobis"]["beta"])
    assert chosen == BETAS[int(np.argmax(ranks))]
    by_hand = gradood.RadialMahalanobis(beta=chosen)
    same(monitor.score(given.x), given.scores(by_hand, fit=True), 1e-12)
