"""Distances to decision boundaries, by their definition."""

import numpy as np
import pytest
import torch
from naive.arrays import Array, to_array
from package import NAMES, same, setting

import gradood
from gradood.errors import DataError
from gradood.functional.fdbd import boundary_distance, inverse_separations


def fdbd(h, fit_h, W, b, by_distance: bool) -> Array:
    """−mean over the other classes of the distance to their boundary, per length (2312.11536)."""
    rows, weight, offset = to_array(h), to_array(W), to_array(b)
    mean = to_array(fit_h).mean(0)
    scores = []
    for row in rows:
        z = weight @ row + offset
        top = int(np.argmax(z))
        distances = [
            abs(z[top] - z[c]) / np.sqrt(((weight[top] - weight[c]) ** 2).sum())
            for c in range(len(z))
            if c != top
        ]
        length = np.sqrt(((row - mean if by_distance else row) ** 2).sum())
        scores.append(-np.mean(distances) / length)
    return np.array(scores)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("by_distance", [True, False])
def test_fdbd_is_its_formula(name, by_distance):
    given = setting(name)
    h, fit_h = given.features(given.x), given.features(given.fit_x)
    expected = fdbd(h, fit_h, given.weight, given.bias, by_distance)
    same(given.scores(gradood.FDBD(distance_as_normalizer=by_distance), fit=True), expected)


def test_the_distance_leads_to_the_boundary(rng):
    """Moved that far along w_c − w_ĉ, a sample has equal logits for both classes."""
    W, b, h = (torch.tensor(rng.normal(size=size)) for size in ((3, 5), (3,), (1, 5)))
    z = h @ W.T + b
    top = int(z.argmax())
    inverse = inverse_separations(W)
    for c in {0, 1, 2} - {top}:
        distance = (z[0, top] - z[0, c]) * inverse[top, c]
        moved = (h + distance * (W[c] - W[top]) * inverse[top, c]) @ W.T + b
        same(float(moved[0, top]), float(moved[0, c]), relative=1e-12)


def test_a_known_number():
    """Boundaries 3/5 and 4/2 away, at length 2: (0.6 + 2) / 2 / 2."""
    W = torch.tensor([[0.0, 0.0], [3.0, 4.0], [0.0, 2.0]])
    logits = torch.tensor([[5.0, 2.0, 1.0]], dtype=torch.float64)
    found = boundary_distance(logits, inverse_separations(W), torch.tensor([2.0]).double())
    same(found, [0.65], relative=1e-12)


def test_classes_with_equal_rows_have_no_boundary():
    W = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 0.0]])
    logits = torch.tensor([[2.0, 1.0, 0.0]], dtype=torch.float64)
    found = boundary_distance(logits, inverse_separations(W), torch.ones(1).double())
    same(found, [2.0], relative=1e-12)


def test_a_sample_at_the_mean_feature_is_finite():
    inverse = inverse_separations(torch.eye(2))
    logits = torch.tensor([[1.0, 0.0]], dtype=torch.float64)
    assert bool(boundary_distance(logits, inverse, torch.zeros(1).double()).isfinite())


def test_a_fit_whose_features_are_all_the_mean_is_refused():
    given = setting("plain_cnn")
    same_x = given.fit_x[:1].repeat(8, 1, 1, 1)
    data = [(same_x[:5], torch.arange(5)), (same_x[5:], torch.arange(3))]
    with pytest.raises(DataError, match=r"all 8 fit samples have the same features"):
        gradood.Monitor(given.network, gradood.FDBD()).fit(data)
    by_norm = gradood.Monitor(given.network, gradood.FDBD(distance_as_normalizer=False)).fit(data)
    assert len(by_norm.score(given.x).unique()) == len(given.x)
