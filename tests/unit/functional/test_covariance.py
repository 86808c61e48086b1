"""Shrinkage against scikit-learn, distances against an explicit inverse."""

import numpy as np
import pytest
import torch
from sklearn.covariance import oas

from gradood.functional.covariance import oracle_shrinkage, squared_distances, whitening


@pytest.mark.parametrize(("n", "width"), [(200, 5), (30, 30), (10, 40), (3, 2)])
def test_equal_to_scikit_learn(n, width):
    x = np.random.default_rng(0).normal(size=(n, width)) @ np.diag(np.arange(1, width + 1))
    centered = x - x.mean(0)
    covariance = torch.from_numpy(centered.T @ centered / n)
    shrunk, weight = oracle_shrinkage(covariance.clone(), n)
    expected, shrinkage = oas(centered, assume_centered=True)
    assert weight == pytest.approx(shrinkage, rel=1e-10)
    np.testing.assert_allclose(shrunk.numpy(), expected, rtol=1e-10, atol=1e-12)


def test_the_argument_is_not_changed():
    covariance = torch.eye(3, dtype=torch.float64) + 0.2
    before = covariance.clone()
    oracle_shrinkage(covariance, 10)
    whitening(covariance)
    assert torch.equal(covariance, before)


@pytest.mark.parametrize("offset", [0.0, 1e3])
def test_equal_to_the_explicit_inverse(offset):
    root = torch.randn(8, 8, dtype=torch.float64)
    covariance = root @ root.T + 0.1 * torch.eye(8, dtype=torch.float64)
    transform, condition = whitening(covariance)
    inverse = torch.linalg.inv(covariance)
    torch.testing.assert_close(transform @ transform.T, inverse, rtol=1e-9, atol=1e-9)
    assert condition == pytest.approx(float(torch.linalg.cond(covariance)), rel=1e-6)
    features, centers = torch.randn(7, 8) + offset, torch.randn(4, 8).double() + offset
    found = squared_distances(features, transform, centers @ transform)
    for i in range(7):
        for c in range(4):
            gap = features[i].double() - centers[c]
            assert float(found[i, c]) == pytest.approx(float(gap @ inverse @ gap), rel=1e-7)


def test_a_singular_covariance_is_whitened_finitely():
    covariance = torch.diag(torch.tensor([4.0, 1.0, 0.0], dtype=torch.float64))
    transform, condition = whitening(covariance)
    assert bool(transform.isfinite().all())
    assert condition == torch.inf
