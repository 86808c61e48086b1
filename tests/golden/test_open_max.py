"""OpenMax against the released procedure, and its Weibull fit against scipy's."""

import warnings

import numpy as np
import pytest
import torch
from naive import openmax
from package import NAMES, same, setting
from scipy.stats import weibull_min

import gradood
from gradood.errors import ConfigError, DataError, MeaninglessScoreWarning
from gradood.functional.openmax import class_models, distances_to, tail_of, unknown_log_odds
from gradood.functional.weibull import fit_weibull


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("tailsize", "alpha", "distance", "samples", "translation"),
    [
        (20, 10, "euclidean", "correct", 10_000),
        (4, 2, "eucos", "all", 10_000),
        (6, 3, "cosine", "all", 10_000),
        ("auto", 10, "eucos", "correct", 10_000),
        (20, 3, "euclidean", "correct", 1),
    ],
)
def test_open_max_is_its_formula(name, tailsize, alpha, distance, samples, translation):
    given = setting(name, fit=90)
    detector = gradood.OpenMax(
        tailsize=tailsize,
        alpha=alpha,
        distance=distance,
        samples=samples,
        translation=translation,
    )
    expected = openmax.openmax(
        given.logits(given.x),
        given.logits(given.fit_x),
        given.fit_y,
        None if tailsize == "auto" else tailsize,
        alpha,
        distance,
        samples == "correct",
        translation,
    )
    same(given.scores(detector, fit=True), expected, 1e-7)


@pytest.mark.parametrize("translation", [0.5, 3.0, 100.0])
def test_the_fit_is_at_least_as_likely_as_scipys(rng, translation):
    tails = np.sort(rng.gamma(3.0, size=(6, 20)), 1)
    model = fit_weibull(torch.tensor(tails), translation)
    for row, shape, log_scale in zip(
        tails, model.shape.tolist(), model.log_scale.tolist(), strict=True
    ):
        x = row - row.min() + translation
        c, _, scale = weibull_min.fit(x, floc=0)
        mine = weibull_min.logpdf(x, shape, scale=translation * np.exp(log_scale)).sum()
        theirs = weibull_min.logpdf(x, c, scale=scale).sum()
        assert mine >= theirs - 1e-9
        assert shape == pytest.approx(c, rel=1e-2)
        assert translation * np.exp(log_scale) == pytest.approx(scale, rel=1e-3)


@pytest.mark.parametrize("translation", [2.0, 1e4])
def test_the_distribution_is_scipys(rng, translation):
    tails = torch.tensor(rng.gamma(3.0, size=(4, 12)))
    model = fit_weibull(tails, translation)
    d = torch.tensor(rng.gamma(4.0, size=(30, 4)))
    found = model.cdf(d).numpy()
    scale = translation * model.log_scale.exp().numpy()
    x = d.numpy() - tails.amin(1).numpy() + translation
    expected = weibull_min.cdf(x, model.shape.numpy(), scale=scale)
    np.testing.assert_allclose(found, expected, rtol=1e-7, atol=1e-12)
    ends = model.cdf(torch.tensor([[-1e9] * 4, [1e300] * 4]).double())
    assert ends.tolist() == [[0.0] * 4, [1.0] * 4]


def test_a_root_is_found_for_any_tail():
    tails = torch.tensor(
        [
            [1.0, 1.0, 1.0, 1.0 + 1e-5],
            [0.0, 1e-12, 1e-6, 1e6],
            [5.0, 5.0, 5.0, 0.0],
            [1e5, 2e5, 3e5, 4e5],
        ]
    ).double()
    model = fit_weibull(tails)
    for row, shape in zip(tails.tolist(), model.shape.tolist(), strict=True):
        assert shape == pytest.approx(openmax.weibull(row)[0], rel=1e-6)


def test_weights_fall_with_the_rank_and_ties_go_by_index():
    z = torch.tensor([[3.0, 3.0, 1.0, 0.0]]).double()
    w = torch.ones(1, 4).double()
    revised = torch.tensor([[0.0, 1.5, 1.0, 0.0]]).double()
    expected = 4.5 - torch.logsumexp(revised, 1)
    assert torch.allclose(unknown_log_odds(z, w, 2), expected, rtol=1e-14)
    none = unknown_log_odds(z, torch.zeros_like(w), 2)
    assert torch.allclose(none, -torch.logsumexp(z, 1), rtol=1e-14)


def test_classes_that_cannot_be_fitted_are_unknown(rng):
    z, y = torch.tensor(rng.normal(size=(40, 3))), torch.tensor([0] * 30 + [1] * 8 + [2] * 2)
    z[30:38] = z[30]
    centers, model = class_models(z, y, 3, "euclidean", 20)
    assert model.shape[0] > 0 and model.shape[1:].tolist() == [0.0, 0.0]
    assert float(centers[1:].abs().sum()) == 0
    assert torch.allclose(centers[0], z[:30].mean(0))
    given = setting("mlp_bn")
    with pytest.raises(DataError, match=r"open-max found no class with three samples"):
        gradood.Monitor(given.network, "open-max").fit([(given.fit_x[:2], given.fit_y[:2])])


@pytest.mark.parametrize(("samples", "tail"), [(3, 3), (20, 3), (200, 4), (999, 19), (5000, 20)])
def test_the_tail_is_a_share_of_the_class(samples, tail):
    assert tail_of(samples) == tail


@pytest.mark.parametrize("wrong", [{"tailsize": "all"}, {"tailsize": 1}, {"translation": 0.0}])
def test_wrong_options_are_named(wrong):
    (option,) = wrong
    with pytest.raises(ConfigError, match=rf"{option}={wrong[option]!r}; expected a number > "):
        gradood.OpenMax(**wrong)


def test_cosine_of_zero_is_far():
    z = torch.zeros(1, 3).double()
    centers = torch.ones(2, 3).double()
    assert distances_to(z, centers, "cosine").tolist() == [[1.0, 1.0]]


def test_few_samples_of_a_class_are_told():
    generator = torch.Generator().manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Identity(), torch.nn.Linear(4, 3))

    def fitted(each):
        x = torch.randn(3 * each, 4, generator=generator)
        gradood.Monitor(model, gradood.OpenMax(samples="all")).fit(
            [(x, torch.arange(3 * each) % 3)]
        )

    with pytest.warns(MeaninglessScoreWarning, match="half of the classes have 9 all fit samples"):
        fitted(9)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fitted(10)
