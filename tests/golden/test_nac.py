"""NAC against gradients by autograd and histograms by loops."""

import numpy as np
import pytest
import torch
from naive import nac
from package import NAMES, same, setting

import gradood
from gradood.errors import ConfigError, DataError, TapError
from gradood.evidence import content_keys
from gradood.functional.coverage import bin_edges, covered, mean_coverage, uniform_kl_gradient
from gradood.functional.samples import Selection

ALPHA, R, BINS = (0.05, 2.0, 30.0), (3, 12.5, 5), (20, 50, 7)


def given_layers(given):
    return given.case.norms[0], given.case.norms[-1]


@pytest.mark.parametrize("name", NAMES)
def test_nac_is_its_formula(name):
    given = setting(name)
    layers = given_layers(given)
    fit = nac.products(given.network, given.fit_x, layers)
    test = nac.products(given.network, given.x, layers)
    detector = gradood.NAC(layers=layers, alpha=ALPHA, r=R, bins=BINS, samples=len(given.fit_x))
    expected = nac.nac(fit, test, ALPHA, R, BINS)
    assert len(set(expected)) > 1
    same(given.scores(detector, fit=True), expected)


@pytest.mark.parametrize("name", NAMES)
def test_nac_chooses_its_steepness_from_the_fit(name):
    given = setting(name)
    layers = given_layers(given)
    fit = nac.products(given.network, given.fit_x, layers)
    alphas = [nac.auto_alpha(layer) for layer in fit]
    monitor = gradood.Monitor(given.network, gradood.NAC(layers=layers)).fit(given.fit_data)
    same(monitor.states["nac"]["alpha"].numpy(), alphas)
    # 40 of the 1,000 samples of which 50 fill a bin.
    test = nac.products(given.network, given.x, layers)
    same(monitor.score(given.x).numpy(), nac.nac(fit, test, alphas, (2.0,) * 3, (50,) * 3))


def test_nac_learns_of_a_seeded_few():
    given = setting("plain_cnn")
    order = content_keys(given.fit_x).argsort()[:15]
    fit = nac.products(given.network, given.fit_x[order], ())
    test = nac.products(given.network, given.x, ())
    detector = gradood.NAC(layers=(), alpha=10.0, r=4, bins=12, samples=15)
    same(given.scores(detector, fit=True), nac.nac(fit, test, (10.0,), (4,), (12,)))


@pytest.mark.parametrize(
    ("name", "layers"),
    [
        ("plain_cnn", "norm1, norm2"),
        ("post_activation_resnet", "stage2.norm1, stage2.norm2, stage2.shortcut.1"),
        ("pre_activation_densenet", "block2.0.norm, block2.1.norm, norm"),
        ("mlp_bn", "norm1, norm2"),
    ],
)
def test_nac_reads_the_last_normalizations_and_the_features(name, layers):
    given = setting(name)
    monitor = gradood.Monitor(given.network, gradood.NAC())
    assert monitor.bind(given.x).plans["nac"].notes == (f"layers {layers}, features",)


def test_the_gradient_of_kl_is_its_closed_form(rng):
    h, W = torch.tensor(rng.normal(size=(5, 6))), torch.tensor(rng.normal(size=(4, 6)))
    h.requires_grad_()
    u = torch.full((5, 4), 0.25, dtype=torch.float64)
    kl = torch.nn.functional.kl_div(torch.log_softmax(h @ W.T, 1), u, reduction="sum")
    (expected,) = torch.autograd.grad(kl, h)
    torch.testing.assert_close(uniform_kl_gradient((h @ W.T).detach(), W), expected)


@pytest.mark.parametrize("bins", [4, 5, 50, 500, 1000])
def test_bins_are_the_released_ones(bins):
    edges = bin_edges(bins)
    np.testing.assert_allclose(edges, nac.thresholds(bins), rtol=0, atol=1e-12)
    assert bool((edges.diff() > 0).all())
    assert 0.5 in edges.tolist()


def test_states_at_the_ends_and_nan():
    fit = torch.tensor([[1e300, -1e300, 0.0]] * 4, dtype=torch.float64)
    table = covered(fit, 3.0, 10, 2.0)
    assert table.sum(1).tolist() == [1.0, 1.0, 1.0]
    nan, inf = float("nan"), float("inf")
    test = torch.tensor([[1e300, -1e300, 0.0], [inf, -inf, -0.0], [nan, nan, nan], [0, 0, 1e9]])
    assert mean_coverage(test.double(), 3.0, table).tolist() == [1.0, 1.0, 0.0, 0.0]


def test_wrong_numbers_of_settings_are_refused():
    given = setting("plain_cnn")
    monitor = gradood.Monitor(given.network, gradood.NAC(layers=["norm1"], alpha=(1.0, 2.0, 3.0)))
    with pytest.raises(ConfigError, match=r"nac with alpha=.* has 3 numbers for 1 layers .*give 2"):
        monitor.fit(given.fit_data)


def test_an_unknown_layer_is_refused():
    given = setting("plain_cnn")
    monitor = gradood.Monitor(given.network, gradood.NAC(layers=["norm9"]))
    with pytest.raises(TapError, match="norm9"):
        monitor.fit(given.fit_data)


def overflowing():
    """The model answers: tanh makes 1 of infinity, but its gradient times infinity is no number."""
    linear, head = torch.nn.Linear(12, 6).double(), torch.nn.Linear(6, 3).double()
    torch.nn.init.ones_(linear.weight)
    network = torch.nn.Sequential(linear, torch.nn.Tanh(), head).eval()
    x = torch.randn(40, 12, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return gradood.Monitor(network, gradood.NAC(layers=["0"], samples=20)), x


def test_fit_samples_that_overflow_are_in_no_bin():
    monitor, x = overflowing()
    few = monitor.fit(x[:20]).states["nac"]["coverage_0"]
    huge = torch.full((20, 12), 1e308, dtype=torch.float64)
    monitor, _ = overflowing()
    monitor.bind(x)
    part = monitor.accumulate([x[:20]])
    both = monitor.merge(part, monitor.accumulate([huge]))
    monitor.finish(both)
    assert bool((monitor.states["nac"]["coverage_0"] <= 1).all())
    assert bool(monitor.score(huge).isfinite().all())
    assert few.shape == monitor.states["nac"]["coverage_0"].shape


def test_a_layer_without_a_finite_gradient_is_logged(caplog):
    monitor, x = overflowing()
    monitor.bind(x)
    monitor.fit(torch.full((20, 12), 1e308, dtype=torch.float64))
    assert "nac: no finite activation or gradient at 1 of 2 layers" in caplog.text
    assert not bool(monitor.states["nac"]["coverage_0"].any())
    assert bool(monitor.score(x).isfinite().all())


def test_a_fit_of_nothing_finite_is_refused():
    given = setting("plain_cnn")
    nan = torch.full((4, 3), torch.nan, dtype=torch.float64)
    part = Selection.of(4, key=torch.arange(4), layer_0=nan)
    bound = gradood.Monitor(given.network, gradood.NAC()).bind(given.x)
    with pytest.raises(DataError, match="nac was fitted on activations or gradients that all"):
        gradood.NAC().finish(part, bound.network, bound.plans["nac"])


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("layers", "norm1"),
        ("alpha", 0),
        ("alpha", float("nan")),
        ("alpha", (1.0, -1.0)),
        ("alpha", "steep"),
        ("r", ()),
        ("r", 0.0),
        ("bins", 3),
        ("bins", 10.0),
        ("samples", 0),
    ],
)
def test_wrong_options_are_refused(option, value):
    with pytest.raises(ConfigError, match=rf"^{option}=.*; expected "):
        gradood.NAC(**{option: value})
