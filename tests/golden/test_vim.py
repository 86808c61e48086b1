"""ViM against what single eigenvectors leave over, and against scikit-learn."""

import numpy as np
import pytest
import torch
from naive import subspaces
from package import NAMES, same, setting
from scipy.special import logsumexp
from sklearn.covariance import EmpiricalCovariance

import gradood
from gradood.errors import ConfigError, DataError
from gradood.evidence import content_keys

# Of a difference between the virtual logit and the energy of the others.
RELATIVE = 1e-7


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dimension", ["auto", 2])
def test_vim_is_its_formula(name, dimension):
    given = setting(name)
    fit = given.features(given.fit_x)
    size = min(fit.shape[1] // 2, len(fit) // 10) if dimension == "auto" else dimension
    learned = subspaces.vim_fit(fit, given.weight, given.bias, size)
    expected = subspaces.vim(given.features(given.x), given.weight, given.bias, learned)
    same(given.scores(gradood.ViM(dimension=dimension), fit=True), expected, RELATIVE)


def test_vim_is_the_released_recipe_with_scikit_learn(rng):
    """The steps of the authors' benchmark, in numpy and scikit-learn, on features of their own."""
    model = torch.nn.Sequential(torch.nn.Identity(), torch.nn.Linear(8, 4)).double().eval()
    W, b = model[1].weight.detach().numpy(), model[1].bias.detach().numpy()
    # Classifies well, so that the mean largest logit is positive.
    h = abs(rng.normal(size=(200, 8))) * np.arange(1, 9) @ rng.normal(size=(8, 8)) + 2
    x = rng.normal(size=(11, 8)) * 5
    u = -np.linalg.pinv(W) @ b
    covariance = EmpiricalCovariance(assume_centered=True).fit(h - u).covariance_
    values, vectors = np.linalg.eigh(covariance)
    null = vectors[:, np.argsort(-values)[3:]]
    alpha = (h @ W.T + b).max(1).mean() / np.linalg.norm((h - u) @ null, axis=1).mean()
    expected = alpha * np.linalg.norm((x - u) @ null, axis=1) - logsumexp(x @ W.T + b, axis=1)
    monitor = gradood.Monitor(model, gradood.ViM(dimension=3))
    monitor.fit(list(torch.tensor(h).split(33)))
    assert float(monitor.states["vim"]["alpha"]) == pytest.approx(alpha, rel=1e-9)
    same(monitor.score(torch.tensor(x)), expected, RELATIVE)


@pytest.mark.parametrize("samples", [11, 1000])
def test_alpha_of_a_selection_is_taken_from_the_smallest_keys(samples):
    given = setting("post_activation_resnet")
    rows = content_keys(given.fit_x).argsort()[:samples]
    learned = subspaces.vim_fit(
        given.features(given.fit_x), given.weight, given.bias, 4, rows.numpy()
    )
    expected = subspaces.vim(given.features(given.x), given.weight, given.bias, learned)
    detector = gradood.ViM(dimension=4, alpha_samples=samples)
    same(given.scores(detector, fit=True), expected, RELATIVE)


def test_a_fit_that_lies_inside_the_principal_space_is_refused():
    given = setting("plain_cnn")
    monitor = gradood.Monitor(given.network, gradood.ViM(dimension=5))
    with pytest.raises(DataError, match=r"vim .* all 3 of those lie inside; give more samples"):
        monitor.fit([given.fit_x[:3]])


def test_a_dimension_that_leaves_nothing_is_refused():
    given = setting("plain_cnn")
    monitor = gradood.Monitor(given.network, gradood.ViM(dimension=999))
    with pytest.raises(ConfigError, match=r"vim with dimension=999 leaves nothing outside"):
        monitor.fit(given.fit_data)


@pytest.mark.parametrize("wrong", [{"dimension": 0}, {"dimension": 2.5}, {"alpha_samples": 0}])
def test_wrong_options_are_named(wrong):
    (option,) = wrong
    with pytest.raises(ConfigError, match=rf"{option}={wrong[option]}; expected a"):
        gradood.ViM(**wrong)


def test_largest_logits_that_are_negative_are_told(caplog):
    model = torch.nn.Sequential(torch.nn.Identity(), torch.nn.Linear(4, 3)).eval()
    with torch.no_grad():
        model[1].bias.sub_(100)
    gradood.Monitor(model, "vim").fit([torch.randn(40, 4)])
    assert "vim: the mean largest logit of the fit data is -" in caplog.text
