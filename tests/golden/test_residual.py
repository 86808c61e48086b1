"""Residual against what single eigenvectors leave over, and against scikit-learn."""

import math

import numpy as np
import pytest
import torch
from naive import subspaces
from package import NAMES, same, setting
from sklearn.covariance import EmpiricalCovariance
from sklearn.decomposition import PCA

import gradood
from gradood.errors import ConfigError
from gradood.functional.subspace import head_origin, part_norm, principal, residual

# Of lengths outside, which may be far shorter than the features.
RELATIVE = 1e-7


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("origin", ["head", "mean"])
@pytest.mark.parametrize("dimension", ["auto", 2])
def test_residual_is_its_formula(name, origin, dimension):
    given = setting(name)
    fit = given.features(given.fit_x)
    start = subspaces.origin(given.weight, given.bias) if origin == "head" else fit.mean(0)
    size = fit.shape[1] // 2 if dimension == "auto" else dimension
    expected = subspaces.residual(given.features(given.x), fit, start, size)
    detector = gradood.Residual(dimension=dimension, origin=origin)
    same(given.scores(detector, fit=True), expected, RELATIVE)


def test_about_the_mean_it_is_the_reconstruction_error_of_scikit_learn(rng):
    h, x = rng.normal(size=(80, 6)) * np.arange(1, 7) + 3, rng.normal(size=(9, 6))
    pca = PCA(2).fit(h)
    expected = np.linalg.norm(x - pca.inverse_transform(pca.transform(x)), axis=1)
    operator = residual(torch.tensor(np.cov(h.T)), 2)
    same(part_norm(torch.tensor(x - h.mean(0)), operator), expected)


def test_about_the_head_it_is_the_null_space_of_scikit_learns_covariance(rng):
    h, x = rng.normal(size=(80, 6)) * np.arange(1, 7) + 3, rng.normal(size=(9, 6))
    W, b = rng.normal(size=(4, 6)), rng.normal(size=4)
    start = -np.linalg.pinv(W) @ b
    same(head_origin(torch.tensor(W), torch.tensor(b)), start)
    covariance = EmpiricalCovariance(assume_centered=True).fit(h - start).covariance_
    values, vectors = np.linalg.eigh(covariance)
    null = vectors[:, np.argsort(-values)[2:]]
    operator = residual(torch.tensor(covariance), 2)
    same(part_norm(torch.tensor(x - start), operator), np.linalg.norm((x - start) @ null, axis=1))


def test_a_head_without_bias_has_its_origin_at_zero():
    assert head_origin(torch.randn(3, 5), None).tolist() == [0.0] * 5


def rotation(rng, size):
    return torch.tensor(np.linalg.qr(rng.normal(size=(size, size)))[0])


@pytest.mark.parametrize("dimension", [1, 2, 3])
def test_equal_eigenvalues_across_the_cut_count_by_their_share(rng, dimension):
    """Of three equal ones, `dimension − 1` thirds are principal, in whatever basis they come."""
    turn = rotation(rng, 5)
    moment = turn @ torch.diag(torch.tensor([9.0, 4.0, 4.0, 4.0, 1.0]).double()) @ turn.T
    x = torch.tensor(rng.normal(size=(4, 5)))
    along = (x @ turn).square().numpy()
    share = (dimension - 1) / 3
    outside = (1 - share) * along[:, 1:4].sum(1) + along[:, 4]
    same(part_norm(x, residual(moment, dimension)), np.sqrt(outside))
    inside = along[:, 0] + share * along[:, 1:4].sum(1)
    same(part_norm(x, principal(moment, dimension)), np.sqrt(inside))


def test_the_share_is_the_mean_square_over_all_choices_of_a_basis(rng):
    moment = torch.diag(torch.tensor([2.0, 1.0, 1.0, 1.0]).double())
    x = torch.tensor([[0.3, 1.0, -2.0, 0.5]], dtype=torch.float64)
    squares = []
    for _ in range(4000):
        basis = rotation(rng, 3)
        squares.append(float((x[0, 1:] @ basis[:, 1:]).square().sum()))
    found = float(part_norm(x, residual(moment, 2)))
    assert found**2 == pytest.approx(float(np.mean(squares)), rel=0.03)
    assert found == pytest.approx(math.sqrt(2 / 3 * 5.25), rel=1e-12)


def test_a_cut_among_directions_that_never_vary_ranks_by_all_of_them(rng):
    """Rank 2, cut at 3: the four empty directions are equal, and three of four lie outside."""
    basis = rotation(rng, 6)
    h = torch.tensor(rng.normal(size=(30, 2))) @ basis[:2]
    x = torch.tensor(rng.normal(size=(7, 6)))
    empty = torch.linalg.vector_norm(x @ basis[2:].T, dim=1).numpy()
    same(part_norm(x, residual(h.T @ h / 30, 3)), empty * math.sqrt(3 / 4), 1e-6)


def test_a_dimension_that_leaves_nothing_is_refused():
    given = setting("plain_cnn")
    width = given.features(given.x).shape[1]
    monitor = gradood.Monitor(given.network, gradood.Residual(dimension=width))
    with pytest.raises(ConfigError, match=rf"residual with dimension={width} .* less than {width}"):
        monitor.fit(given.fit_data)


@pytest.mark.parametrize(("width", "expected"), [(64, 32), (767, 383), (768, 512), (2048, 1000)])
def test_the_automatic_dimension_is_the_released_one(width, expected):
    model = torch.nn.Sequential(torch.nn.Identity(), torch.nn.Linear(width, 2)).eval()
    (use,) = gradood.inspect(model, torch.randn(32, width), ["residual"]).uses
    assert use.notes == (f"principal space of {expected} dimensions",)
