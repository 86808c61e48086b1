"""A step along a fitted score (Lee et al. 2018), against a naive transcription and the contract."""

import pickle
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from lee_detector import LeeMahalanobis
from naive.mahalanobis import MahalanobisFit, mahalanobis, mahalanobis_fit
from package import same, setting

import gradood
import gradood.detectors.base
from gradood import registry
from gradood.errors import ConfigError, NotFittedError, TapError
from gradood.evidence import LOGITS, FittedScore, Perturbation, Perturbed, gather
from gradood.testing import check_detector, networks

CASE, LAYERS, NOISE = "plain_cnn", ("conv2", "relu2"), 0.05


@pytest.fixture
def installed(monkeypatch):
    """The detector, as of an installed package."""
    point = SimpleNamespace(load=lambda: LeeMahalanobis)
    monkeypatch.setattr(registry, "entry_points", lambda group: [point])
    registry._classes.cache_clear()
    yield
    monkeypatch.undo()
    registry._classes.cache_clear()


def layer_means(network, x, name):
    """The spatial mean of a layer's output, with its graph."""
    kept = []
    handle = dict(network.named_modules())[name].register_forward_hook(
        lambda _, __, output: kept.append(output)
    )
    network(x)
    handle.remove()
    return kept[0].mean((2, 3))


def confidence(row, fit: MahalanobisFit):
    """M(x) = max_c −(f − μ_c)ᵀ Σ⁻¹ (f − μ_c), one class at a time."""
    precision = torch.as_tensor(np.linalg.inv(fit.covariance))
    values = []
    for mean in fit.means:
        centered = row - torch.as_tensor(mean)
        values.append(-(centered @ precision @ centered))
    return max(values)


def naive_scores(given):
    total = np.zeros(len(given.x))
    for name in LAYERS:
        with torch.no_grad():
            fit = mahalanobis_fit(layer_means(given.network, given.fit_x, name), given.fit_y)
        for n, image in enumerate(given.x):
            x = image[None].clone().requires_grad_()
            confidence(layer_means(given.network, x, name)[0], fit).backward()
            moved = image + NOISE * torch.sign(x.grad[0])
            with torch.no_grad():
                total[n] += mahalanobis(layer_means(given.network, moved[None], name), fit)[0]
    return total


def test_lee_mahalanobis_is_its_formula():
    given = setting(CASE)
    expected = naive_scores(given)
    found = given.scores(LeeMahalanobis(layers=LAYERS, noise=NOISE), fit=True)
    same(found, expected, 1e-8)
    still = given.scores(LeeMahalanobis(layers=LAYERS, noise=1e-12), fit=True)
    assert np.all(found < still), "the step does not raise the confidence"


@pytest.mark.slow
@pytest.mark.parametrize("network", ["plain-cnn", "resnet"])
def test_it_keeps_the_contract(network, installed):
    layers = ("conv2", "norm2") if network == "plain-cnn" else ("layer1", "layer2")
    outcomes = check_detector(LeeMahalanobis(layers=layers), networks=[network])
    assert {outcome.status for outcome in outcomes} == {"passed"}


def test_each_detector_steps_along_its_own_state(installed, tmp_path):
    network = networks()["plain-cnn"]
    model, x = network.model(), network.inputs(6, 1)
    halves = [network.inputs(64, seed) for seed in (2, 3)]
    y = network.labels(64)
    option = {"layers": ("conv2", "norm2"), "noise": 0.3}
    alone = [
        gradood.Monitor(model, LeeMahalanobis(**option)).fit([(half, y)]).score(x)
        for half in halves
    ]
    assert not torch.equal(*alone)
    both = gradood.Monitor(model, {"a": LeeMahalanobis(**option), "b": LeeMahalanobis(**option)})
    both.fit([(halves[0], y)])
    scores = both.score(x)
    assert torch.equal(scores["a"], alone[0]) and torch.equal(scores["b"], alone[0])


def test_it_is_saved_and_loaded_and_its_partials_are_pickled(installed, tmp_path):
    network = networks()["plain-cnn"]
    model, x, y = network.model(), network.inputs(64, 2), network.labels(64)
    option = {"layers": ("conv2", "norm2"), "noise": 0.3}
    monitor = gradood.Monitor(model, LeeMahalanobis(**option))
    monitor.bind(x[:32])
    parts = [monitor.accumulate([(x[rows], y[rows])]) for rows in (slice(32), slice(32, 64))]
    again = [pickle.loads(pickle.dumps(part)) for part in parts]
    monitor.finish(monitor.merge(*again))
    monitor.calibrate(network.inputs(200, 4), fpr=0.2)
    monitor.save(tmp_path / "lee.safetensors")
    loaded = gradood.load(tmp_path / "lee.safetensors", network.model())
    assert torch.equal(loaded.score(x), monitor.score(x))
    assert repr(loaded.detectors["lee-mahalanobis"]) == repr(LeeMahalanobis(**option))


def test_a_fitted_step_is_refused_where_nothing_was_fitted():
    network = networks()["plain-cnn"]
    x = network.inputs(3)
    monitor = gradood.Monitor(network.model(), LeeMahalanobis(layers=("conv2", "norm2")))
    binding = monitor.bind(x)
    with pytest.raises(NotFittedError, match="lee-mahalanobis must be fitted first"):
        monitor.score(x)
    with pytest.raises(NotFittedError, match="the step along 'layer_0' is known only after a fit"):
        gather(binding.network, x, binding.plans["lee-mahalanobis"].reads)
    read = Perturbed(Perturbation(FittedScore("own", (LOGITS,)), 0.1), LOGITS)
    with pytest.raises(ConfigError, match="a fit cannot read what steps along the fitted score"):
        gradood.detectors.base.Plan((LOGITS,), fit_reads=(read,))
    with pytest.raises(TapError, match="energy plans a step along 'own', and has no objective"):
        bound = gradood.Energy().bound_reads(gradood.detectors.base.Plan((read,)).reads, {})
        gather(binding.network, x, bound)
