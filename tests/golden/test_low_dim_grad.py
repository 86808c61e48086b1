"""Reduced gradients against gradients taken by autograd and held whole."""

import numpy as np
import pytest
import torch
from naive.arrays import Array, to_array, to_labels
from naive.label_gradients import head_gradients
from package import NAMES, setting

import gradood
from gradood.errors import DataError, TapError

# Formulas are checked on few samples and at any setting.
pytestmark = pytest.mark.filterwarnings("ignore::gradood.errors.MeaninglessScoreWarning")

# The bank keeps directions in float32.
BANK = 2e-7


def gradients(h, W, b) -> Array:
    """(rows, entries) of ∂ logsumexp(z) / ∂(W, b)."""
    rows = []
    for row in to_array(h):
        parts = head_gradients(row, W, b, lambda z: torch.logsumexp(z, 0))
        rows.append(torch.cat([part.flatten() for part in parts]).numpy())
    return np.stack(rows)


def low_dim_grad(h, fit_h, fit_y, W, b, k: int) -> Array:
    """Distance to the k-th nearest reduced gradient (average gradients of arXiv 2310.17163)."""
    fit, labels = gradients(fit_h, W, b), to_labels(fit_y)
    center = fit.mean(0)
    directions = []
    for c in sorted(set(labels.tolist())):
        mean = fit[labels == c].mean(0) - center
        directions.append(mean / np.linalg.norm(mean))
    bank = [np.array([v @ (g - center) for v in directions]) for g in fit]
    bank = [r / np.linalg.norm(r) for r in bank]
    scores = []
    for g in gradients(h, W, b):
        own = np.array([v @ (g - center) for v in directions])
        own /= np.linalg.norm(own)
        scores.append(sorted(float(np.linalg.norm(own - r)) for r in bank)[k - 1])
    return np.array(scores)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("k", [1, 5])
def test_low_dim_grad_is_its_formula(name, k):
    given = setting(name)
    h, fit_h = given.features(given.x), given.features(given.fit_x)
    expected = low_dim_grad(h, fit_h, given.fit_y, given.weight, given.bias, k)
    scores = given.scores(gradood.LowDimGrad(k=k), fit=True)
    np.testing.assert_allclose(scores, expected, rtol=1e-9, atol=BANK)


def test_a_class_that_is_missing_has_no_direction():
    given = setting("mlp_bn")
    kept = given.fit_y != 2
    x, y = given.fit_x[kept], given.fit_y[kept]
    monitor = gradood.Monitor(given.network, gradood.LowDimGrad(k=2)).fit([(x, y)])
    h = given.features(given.x)
    expected = low_dim_grad(h, given.features(x), y, given.weight, given.bias, 2)
    np.testing.assert_allclose(monitor.score(given.x), expected, rtol=1e-9, atol=BANK)
    assert monitor.states["low-dim-grad"]["offset"].shape == (4,)


def test_a_seeded_few_samples_are_kept():
    given = setting("plain_cnn", fit=200)
    monitor = gradood.Monitor(given.network, gradood.LowDimGrad(samples=30)).fit(given.fit_data)
    kept = {tuple(row) for row in monitor.states["low-dim-grad"]["features"].tolist()}
    backward = gradood.Monitor(given.network, gradood.LowDimGrad(samples=30))
    backward.fit(given.fit_data[::-1])
    assert len(kept) == 30
    assert kept == {tuple(row) for row in backward.states["low-dim-grad"]["features"].tolist()}


def test_one_class_alone_is_refused():
    given = setting("plain_cnn")
    x = given.fit_x[:20]
    monitor = gradood.Monitor(given.network, gradood.LowDimGrad())
    with pytest.raises(DataError, match=r"low-dim-grad needs classes whose mean gradients differ"):
        monitor.fit([(x, torch.ones(20, dtype=torch.int64))])
    with pytest.raises(DataError, match=r"low-dim-grad with k=5 was fitted on 4 samples; give at"):
        monitor = gradood.Monitor(given.network, gradood.LowDimGrad(k=5))
        monitor.fit([(x[:4], torch.arange(4))])


def test_two_classes_which_leave_a_sign_alone_are_refused():
    given = setting("mlp_bn")
    kept = given.fit_y < 2
    monitor = gradood.Monitor(given.network, gradood.LowDimGrad(k=2))
    with pytest.raises(DataError, match=r"gradients lie on one line .* three classes or more"):
        monitor.fit([(given.fit_x[kept], given.fit_y[kept])])
    two = torch.nn.Sequential(torch.nn.Identity(), torch.nn.Linear(3, 2)).eval()
    with pytest.raises(TapError, match=r"low-dim-grad .* this model has 2 classes"):
        gradood.Monitor(two, gradood.LowDimGrad()).fit([(torch.randn(40, 3), torch.arange(40) % 2)])
