"""Mahalanobis++: the distance of directions, against a written-out inverse."""

import pytest
import torch
from naive import mahalanobis, relative_mahalanobis
from package import NAMES, same, setting

import gradood
from gradood.functional.directions import directions


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("size", [40, 9])
def test_mahalanobis_plus_plus_is_its_formula(name, size):
    given = setting(name, fit=size)
    unit = relative_mahalanobis.normalized(given.features(given.fit_x))
    fit = mahalanobis.mahalanobis_fit(unit, given.fit_y)
    expected = mahalanobis.mahalanobis(
        relative_mahalanobis.normalized(given.features(given.x)), fit
    )
    same(given.scores(gradood.MahalanobisPlusPlus(), fit=True), expected)


def test_the_length_of_the_features_does_not_matter():
    vectors = torch.randn(6, 9, dtype=torch.float64)
    lengths = torch.logspace(-300, 300, 6, dtype=torch.float64)[:, None]
    torch.testing.assert_close(directions(vectors * lengths), directions(vectors))
    unit = torch.linalg.vector_norm(directions(vectors), dim=1)
    torch.testing.assert_close(unit, torch.ones(6, dtype=torch.float64))


def test_directions_are_computed_in_float64_and_zero_has_none():
    vectors = torch.tensor([[3.0, 4.0], [0.0, 0.0], [3e38, 3e38], [1e-45, 0.0]])
    half = 0.5**0.5
    expected = torch.tensor([[0.6, 0.8], [0.0, 0.0], [half, half], [1.0, 0.0]]).double()
    found = directions(vectors)
    assert found.dtype == torch.float64
    torch.testing.assert_close(found, expected, rtol=1e-7, atol=0)


def test_a_zero_feature_is_scored_at_the_origin():
    model = torch.nn.Sequential(torch.nn.Identity(), torch.nn.Linear(2, 2)).double().eval()
    angles = torch.tensor([0.2, -0.2, 0.2, -0.2]).double()
    first = torch.stack([angles.cos(), angles.sin()], 1)
    x = torch.cat([first, first.flip(1)]) * torch.tensor([1.0, 2, 3, 4, 5, 6, 7, 8])[:, None]
    y = torch.tensor([0, 0, 0, 0, 1, 1, 1, 1])
    monitor = gradood.Monitor(model, "mahalanobis++").fit([(x, y)])
    state = monitor.states["mahalanobis++"]
    centers = state["centers"]
    expected = float(centers.square().sum(1).min())
    score = float(monitor.score(torch.zeros(1, 2, dtype=torch.float64)))
    assert score == pytest.approx(expected, rel=1e-9)
    assert expected > 1.0
