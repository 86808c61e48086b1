"""LINe against the full tensor of masks."""

import pytest
import torch
from naive import line
from package import NAMES, same, setting

import gradood
from gradood.functional.gradnorm import linear_logits
from gradood.functional.line import contributions, pruned_logits, pruning_thresholds

# Formulas are checked on few samples and at any setting.
pytestmark = pytest.mark.filterwarnings("ignore::gradood.errors.MeaninglessScoreWarning")

PERCENTILES = [(90.0, 90.0), (10.0, 10.0), (90.0, 10.0), (0.0, 0.0), (50.0, 99.0)]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("contribution", ["signed", "absolute"])
@pytest.mark.parametrize(("weights", "activations"), PERCENTILES)
def test_line_is_its_formula(name, weights, activations, contribution):
    given = setting(name)
    clip = 0.7
    detector = gradood.LINe(
        weight_percentile=weights,
        activation_percentile=activations,
        clip=clip,
        contribution=contribution,
    )
    h = given.features(given.fit_x)
    fit = line.line_fit(h, given.fit_y, given.weight, weights, activations, clip, contribution)
    expected = line.line_score(given.features(given.x), given.weight, given.bias, fit)
    same(given.scores(detector, fit=True), expected)


@pytest.mark.parametrize("name", NAMES)
def test_line_clips_at_a_percentile_of_the_fit(name):
    given = setting(name)
    monitor = gradood.Monitor(given.network, gradood.LINe(clip="auto")).fit(given.fit_data)
    h = given.features(given.fit_x)
    clip = float(monitor.states["line"]["clip"])
    assert any(clip == pytest.approx(known, rel=1e-3) for known in line.clips_auto(h))
    fit = line.line_fit(h, given.fit_y, given.weight, 90, 10, clip)
    expected = line.line_score(given.features(given.x), given.weight, given.bias, fit)
    same(monitor.score(given.x), expected)


@pytest.mark.parametrize("contribution", ["signed", "absolute"])
@pytest.mark.parametrize(("weights", "activations"), PERCENTILES)
@pytest.mark.parametrize("bias", [False, True])
def test_line_of_random_heads_with_signed_features(rng, weights, activations, contribution, bias):
    W, b = rng.normal(size=(6, 23)), rng.normal(size=6) if bias else None
    h, y = rng.normal(size=(60, 23)), rng.integers(0, 6, size=60)
    x = rng.normal(size=(31, 23))
    fit = line.line_fit(h, y, W, weights, activations, 0.9, contribution)
    seen = abs(h) if contribution == "absolute" else h
    means = torch.tensor([seen[y == c].mean(0).tolist() for c in range(6)])
    weight = torch.tensor(W)
    offset = None if b is None else torch.tensor(b)
    strength = contributions(means.double(), weight, contribution)
    thresholds = pruning_thresholds(torch.tensor(fit.contributions), weight, weights, activations)
    torch.testing.assert_close(strength, torch.tensor(fit.contributions), rtol=1e-5, atol=1e-7)
    clipped = torch.tensor(x).clamp(max=0.9)
    predicted = linear_logits(clipped, weight, offset).argmax(1)
    pruned = pruned_logits(clipped, weight, offset, thresholds, predicted)
    same(-torch.logsumexp(pruned, 1), line.line_score(x, W, b, fit))


@pytest.mark.parametrize(("weights", "activations"), PERCENTILES)
def test_line_thresholds_are_its_masks(rng, weights, activations):
    W, h, y = rng.normal(size=(5, 20)), rng.normal(size=(50, 20)), rng.integers(0, 5, size=50)
    fit = line.line_fit(h, y, W, weights, activations, 1.0)
    thresholds = pruning_thresholds(
        torch.tensor(fit.contributions), torch.tensor(W), weights, activations
    )
    kept = torch.tensor(W)[None] > thresholds[:, None]
    both = fit.weight_masks & fit.activation_masks[:, None]
    assert torch.equal(kept, torch.tensor(both))


def test_line_predicts_from_the_clipped_features():
    """Clipping changes the predicted class of many of these, and with it the masks."""
    given = setting("mlp_bn", n=60)
    clip, h = 0.3, given.features(given.x)
    raw = linear_logits(h, given.weight, given.bias).argmax(1)
    clipped = linear_logits(h.clamp(max=clip), given.weight, given.bias).argmax(1)
    assert float((raw != clipped).double().mean()) > 0.1
    fit = line.line_fit(given.features(given.fit_x), given.fit_y, given.weight, 50, 50, clip)
    detector = gradood.LINe(weight_percentile=50, activation_percentile=50, clip=clip)
    expected = line.line_score(h, given.weight, given.bias, fit)
    same(given.scores(detector, fit=True), expected)
