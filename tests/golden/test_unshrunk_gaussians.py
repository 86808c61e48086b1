"""Mahalanobis distances without shrinkage against scikit-learn's covariance, as released."""

import numpy as np
import pytest
import torch
from naive.relative_mahalanobis import normalized
from package import NAMES, same, setting
from sklearn.covariance import EmpiricalCovariance

import gradood
from gradood.errors import ConfigError, MeaninglessScoreWarning

DETECTORS = (gradood.Mahalanobis, gradood.MahalanobisPlusPlus, gradood.RMDS, gradood.RMDSPlusPlus)


def released(kind, h, y, x):
    """Scores (n,) by the released recipe: class means, and the precision of what is centered."""
    h, x = np.asarray(h, dtype=np.float64), np.asarray(x, dtype=np.float64)
    y = np.asarray(y)
    if kind.name.endswith("++"):
        h, x = normalized(h), normalized(x)
    means = {c: h[y == c].mean(0) for c in np.unique(y)}
    centered = np.concatenate([h[y == c] - mean for c, mean in means.items()])
    within = EmpiricalCovariance(assume_centered=True).fit(centered).precision_
    scores = np.min([np.sum((x - m) @ within * (x - m), 1) for m in means.values()], 0)
    if kind.name.startswith("rmds"):
        background = EmpiricalCovariance().fit(h)
        z = x - background.location_
        scores = scores - np.sum(z @ background.precision_ * z, 1)
    return scores


@pytest.mark.parametrize("kind", DETECTORS)
@pytest.mark.parametrize("name", NAMES)
def test_without_shrinkage_it_is_scikit_learns(kind, name):
    given = setting(name, fit=90)
    expected = released(kind, given.features(given.fit_x), given.fit_y, given.features(given.x))
    monitor = gradood.Monitor(given.network, kind(shrinkage="none")).fit(given.fit_data)
    # The difference of two distances has less precision than each.
    same(monitor.score(given.x), expected, 1e-7 if kind.name.startswith("rmds") else 1e-9)
    assert float(monitor.states[kind.name]["shrinkage"]) == 0.0


def head_alone(width):
    return torch.nn.Sequential(torch.nn.Identity(), torch.nn.Linear(width, 3)).double().eval()


@pytest.mark.filterwarnings("ignore::gradood.errors.LabelMismatchWarning")
@pytest.mark.parametrize("kind", DETECTORS)
def test_directions_without_variance_are_left_out(kind, rng):
    """A unit that is constant, two that are equal: the pseudo-inverse, as released."""
    h = rng.normal(size=(200, 8)) + 3
    h[:, 2], h[:, 5] = 1.5, h[:, 4]
    x = rng.normal(size=(9, 8)) + 3
    y = np.arange(200) % 3
    if kind.name.endswith("++"):
        h[:, 2] = x[:, 2] = 0.0
    monitor = gradood.Monitor(head_alone(8), kind(shrinkage="none"))
    monitor.fit([(torch.tensor(h), torch.tensor(y))])
    assert float(monitor.states[kind.name]["condition"]) == np.inf
    np.testing.assert_allclose(monitor.score(torch.tensor(x)), released(kind, h, y, x), rtol=1e-8)


@pytest.mark.filterwarnings("ignore::gradood.errors.LabelMismatchWarning")
def test_too_few_samples_are_warned_of_where_nothing_is_shrunk(rng):
    h, y = rng.normal(size=(12, 10)), np.arange(12) % 3
    data = [(torch.tensor(h), torch.tensor(y))]
    gradood.Monitor(head_alone(10), "mahalanobis").fit(data)
    monitor = gradood.Monitor(head_alone(10), gradood.Mahalanobis(shrinkage="none"))
    with pytest.warns(MeaninglessScoreWarning, match="which span 9 of 10"):
        monitor.fit(data)
    x = rng.normal(size=(5, 10))
    expected = released(gradood.Mahalanobis, h, y, x)
    np.testing.assert_allclose(monitor.score(torch.tensor(x)), expected, rtol=1e-8)


@pytest.mark.parametrize("kind", DETECTORS)
def test_the_published_setting_is_without(kind):
    assert kind.published == {"shrinkage": "none"}
    with pytest.raises(ConfigError, match=r"shrinkage='ledoit'; expected 'oas' or 'none'"):
        kind(shrinkage="ledoit")
