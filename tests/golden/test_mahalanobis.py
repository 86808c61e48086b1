"""Mahalanobis distance against a written-out inverse."""

import numpy as np
import pytest
import torch
from naive import mahalanobis
from package import NAMES, same, setting

import gradood
from gradood.functional.covariance import oracle_shrinkage, squared_distances, whitening


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("size", [40, 9])
def test_mahalanobis_is_its_formula(name, size):
    given = setting(name, fit=size)
    fit = mahalanobis.mahalanobis_fit(given.features(given.fit_x), given.fit_y)
    monitor = gradood.Monitor(given.network, gradood.Mahalanobis()).fit(given.fit_data)
    assert float(monitor.states["mahalanobis"]["shrinkage"]) == pytest.approx(
        fit.shrinkage, rel=1e-9
    )
    expected = mahalanobis.mahalanobis(given.features(given.x), fit)
    same(monitor.score(given.x), expected)


def test_mahalanobis_leaves_out_absent_classes():
    given = setting("plain_cnn")
    kept = (given.fit_y != 2).nonzero()[:, 0]
    x, y = given.fit_x[kept], given.fit_y[kept]
    fit = mahalanobis.mahalanobis_fit(given.features(x), y)
    assert fit.classes.tolist() == [0, 1, 3, 4]
    monitor = gradood.Monitor(given.network, gradood.Mahalanobis()).fit([(x, y)])
    same(monitor.score(given.x), mahalanobis.mahalanobis(given.features(given.x), fit))


@pytest.mark.parametrize(("samples", "width"), [(80, 6), (12, 30)])
def test_mahalanobis_of_random_features(rng, samples, width):
    h = rng.normal(size=(samples, width)) * np.linspace(0.1, 5, width) + 100
    y = rng.integers(0, 4, size=samples)
    fit = mahalanobis.mahalanobis_fit(h, y)
    centered = h - np.array([fit.means[fit.classes.tolist().index(c)] for c in y])
    covariance, weight = oracle_shrinkage(torch.tensor(centered.T @ centered / samples), samples)
    np.testing.assert_allclose(covariance, fit.covariance, rtol=1e-9, atol=1e-12)
    assert weight == pytest.approx(fit.shrinkage, rel=1e-9)
    transform, _ = whitening(covariance)
    x = rng.normal(size=(9, width)) + 100
    centers = torch.tensor(fit.means) @ transform
    same(
        squared_distances(torch.tensor(x), transform, centers).amin(1),
        mahalanobis.mahalanobis(x, fit),
    )
