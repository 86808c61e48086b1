"""Relative distances against written-out inverses."""

import re

import numpy as np
import pytest
import torch
from naive import relative_mahalanobis
from package import NAMES, same, setting

import gradood
from gradood.errors import DataError
from gradood.functional.moments import ClassMoments

# The difference of two distances has less precision than each; they are up to 100 times as large.
RELATIVE = 1e-7


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("size", [40, 9])
def test_rmds_is_its_formula(name, size):
    given = setting(name, fit=size)
    fit = relative_mahalanobis.relative_fit(given.features(given.fit_x), given.fit_y)
    expected = relative_mahalanobis.relative(given.features(given.x), fit)
    same(given.scores(gradood.RMDS(), fit=True), expected, RELATIVE)


def test_rmds_leaves_out_absent_classes():
    given = setting("plain_cnn")
    kept = (given.fit_y != 2).nonzero()[:, 0]
    x, y = given.fit_x[kept], given.fit_y[kept]
    fit = relative_mahalanobis.relative_fit(given.features(x), y)
    monitor = gradood.Monitor(given.network, gradood.RMDS()).fit([(x, y)])
    assert monitor.states["rmds"]["centers"].shape[0] == 4
    expected = relative_mahalanobis.relative(given.features(given.x), fit)
    same(monitor.score(given.x), expected, RELATIVE)


@pytest.mark.parametrize("detector", [gradood.RMDS(), gradood.RMDSPlusPlus()])
def test_one_class_whose_distances_would_all_cancel_is_refused(detector):
    given = setting("mlp_bn")
    y = torch.ones(len(given.fit_x), dtype=torch.int64)
    monitor = gradood.Monitor(given.network, detector)
    with pytest.raises(DataError, match=re.escape(f"{detector.name} compares each class with all")):
        monitor.fit([(given.fit_x, y)])


@pytest.mark.filterwarnings("ignore::gradood.errors.LabelMismatchWarning")
def test_what_no_class_differs_in_cancels(rng):
    """Far along a direction that all classes share, the distance grows and the relative one not."""
    model = torch.nn.Sequential(torch.nn.Identity(), torch.nn.Linear(3, 2)).double().eval()
    y = torch.arange(4000) % 2
    x = torch.tensor(rng.normal(size=(4000, 3)))
    x[:, 0] += 6.0 * y
    # The third feature has exactly the same distribution in both classes.
    x[1::2, 2] = x[::2, 2]
    detectors = [gradood.Mahalanobis(), gradood.RMDS()]
    monitor = gradood.Monitor(model, detectors).fit([(x, y)])
    at = torch.tensor([[0.0, 0.0, 0.0], [0.0, 0.0, 20.0]], dtype=torch.float64)
    scores = monitor.score(at)
    growth = float(scores["mahalanobis"][1] - scores["mahalanobis"][0])
    assert growth > 350
    assert abs(float(scores["rmds"][1] - scores["rmds"][0])) < 0.02 * growth


def test_overall_scatter_is_that_of_all_samples(rng):
    x, y = rng.normal(size=(50, 4)) + 100, rng.integers(0, 3, size=50)
    moments = ClassMoments.of(torch.tensor(x), torch.tensor(y), 5, scatter=True)
    centered = x - x.mean(0)
    np.testing.assert_allclose(moments.overall_scatter, centered.T @ centered, rtol=1e-9)
    together = ClassMoments.together(torch.tensor(x), scatter=True)
    np.testing.assert_allclose(together.scatter, centered.T @ centered, rtol=1e-9)
    assert together.count.tolist() == [50]
