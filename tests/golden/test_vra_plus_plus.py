"""VRA++ against its formula (2302.11716, and the authors' get_vnorm_score)."""

import math

import numpy as np
import pytest
from naive import shaping
from naive.arrays import to_array
from naive.logits import energy
from package import NAMES, same, setting

import gradood


def terms(given, low, high):
    """The energy of what is between the quantiles, and a function for the quadratic term."""
    fit = to_array(given.features(given.fit_x))
    alpha, beta = (np.quantile(fit, share, axis=0) for share in (low, high))

    def rectified(rows):
        return [
            [
                0.0 if v < alpha[d] else beta[d] if v > beta[d] else v
                for d, v in enumerate(row.tolist())
            ]
            for row in to_array(rows)
        ]

    def free(rows):
        return energy(shaping.head(rectified(rows), given.weight, given.bias))

    def squares(rows, m):
        return np.array([math.fsum((v - m) ** 2 for v in row.tolist()) for row in to_array(rows)])

    return free, squares, fit


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("low", "high", "a", "m"), [(0.5, 0.85, 0.01, 4.0), (0.0, 1.0, 0.0, 1.0), (0.2, 0.6, 2.0, -1.0)]
)
def test_vra_plus_plus_is_its_formula(name, low, high, a, m):
    given = setting(name)
    free, squares, _ = terms(given, low, high)
    h = given.features(given.x)
    detector = gradood.VRAPlusPlus(eta_alpha=low, eta_beta=high, a=a, m=m)
    same(given.scores(detector, fit=True), free(h) + a * squares(h, m))


@pytest.mark.parametrize("name", NAMES)
def test_the_automatic_terms_weigh_a_quarter_of_the_energy(name):
    given = setting(name)
    free, squares, fit = terms(given, 0.5, 0.85)
    monitor = gradood.Monitor(given.network, gradood.VRAPlusPlus()).fit(given.fit_data)
    state = monitor.states["vra++"]
    a, m = float(state["a"]), float(state["m"])
    assert m == pytest.approx(np.quantile(fit, 0.99), rel=1e-3)
    same(a, 0.25 * np.std(free(fit)) / np.std(squares(fit, m)))
    h = given.features(given.x)
    same(monitor.score(given.x), free(h) + a * squares(h, m))
