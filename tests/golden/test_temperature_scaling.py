"""Temperature scaling against a search by scipy."""

import logging

import numpy as np
import pytest
import torch
from naive import entropies, logits
from package import NAMES, same, setting
from scipy.optimize import minimize_scalar

import gradood
from gradood.functional.temperature import LikelihoodSlope


def best(z, y) -> float:
    found = minimize_scalar(
        lambda u: entropies.negative_log_likelihood(z, y, float(np.exp(u))),
        bounds=(-5, 9),
        method="bounded",
        options={"xatol": 1e-9},
    )
    return float(np.exp(found.x))


@pytest.mark.parametrize("name", NAMES)
def test_temperature_scaling_is_its_formula(name):
    given = setting(name)
    monitor = gradood.Monitor(given.network, "temperature-scaling").fit(given.fit_data)
    found = float(monitor.states["temperature-scaling"]["temperature"])
    expected = best(given.logits(given.fit_x), given.fit_y)
    assert found == pytest.approx(expected, rel=1e-5)
    same(monitor.score(given.x), logits.msp(given.logits(given.x) / found))


@pytest.mark.parametrize("true", [0.05, 0.7, 3.0, 250.0])
def test_the_temperature_that_drew_the_labels(rng, true):
    z = true * 2.0 * rng.normal(size=(400, 6))
    p = np.array([entropies.posterior(row / true) for row in z])
    y = np.array([rng.choice(6, p=row) for row in p])
    slope = LikelihoodSlope.of(torch.tensor(z), torch.tensor(y))
    found = slope.temperature()
    assert found == pytest.approx(best(z, y), rel=1e-5)
    assert found == pytest.approx(true, rel=0.3)
    # Multiplying logits multiplies the temperature; nothing else changes.
    tenfold = LikelihoodSlope.of(torch.tensor(10.0 * z), torch.tensor(y)).temperature()
    assert tenfold == pytest.approx(10.0 * found, rel=1e-5)


def test_labels_that_fit_perfectly_or_not_at_all_leave_the_temperature(caplog):
    z = 5.0 * torch.eye(4).double()
    right, wrong = torch.arange(4), (torch.arange(4) + 1) % 4
    assert LikelihoodSlope.of(z, right).temperature() is None
    assert LikelihoodSlope.of(z, wrong).temperature() is None
    assert LikelihoodSlope.of(z[:, :1], torch.zeros(4, dtype=torch.int64)).temperature() is None
    given = setting("mlp_bn")
    data = [(given.fit_x, given.logits(given.fit_x).argmax(1))]
    with caplog.at_level(logging.WARNING):
        scores = gradood.Monitor(given.network, "temperature-scaling").fit(data).score(given.x)
    same(scores, logits.msp(given.logits(given.x)))
    assert "all predicted" in caplog.text and "not trained on" in caplog.text


def test_a_class_ruled_out_is_no_obstacle():
    z = torch.tensor([[1.0, 0.0, -torch.inf], [0.5, 1.0, -torch.inf], [0.4, 0.0, -torch.inf]])
    y = torch.tensor([0, 1, 1])
    with_it = LikelihoodSlope.of(z.double(), y).temperature()
    without = LikelihoodSlope.of(z[:, :2].double(), y).temperature()
    assert with_it == pytest.approx(without, rel=1e-12)
