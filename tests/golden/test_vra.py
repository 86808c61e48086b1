"""VRA against its formula."""

import numpy as np
import pytest
import torch
from naive import shaping
from package import NAMES, same, setting

import gradood
from gradood.errors import DataError
from gradood.functional.shaping import rectified, unit_quantiles


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("low", "high", "gamma"), [(0.6, 0.9, 0.0), (0.05, 0.95, 0.6), (0, 1, 0)])
def test_vra_is_its_formula(name, low, high, gamma):
    given = setting(name)
    fit = given.features(given.fit_x).numpy()
    alpha, beta = np.quantile(fit, low, axis=0), np.quantile(fit, high, axis=0)
    expected = shaping.shaped_energy(
        given.features(given.x),
        given.weight,
        given.bias,
        lambda row: shaping.vra(row, alpha, beta, gamma),
    )
    detector = gradood.VRA(eta_alpha=low, eta_beta=high, gamma=gamma)
    same(given.scores(detector, fit=True), expected)


def test_known_numbers():
    h = torch.tensor([[0.1, 1.0, 2.0, 3.0, 9.0]])
    low, high = torch.full((5,), 1.0).double(), torch.full((5,), 3.0).double()
    assert rectified(h, low, high, 0.5).tolist() == [[0.0, 1.5, 2.5, 3.5, 3.0]]


def test_quantiles_of_each_unit(rng):
    x = rng.normal(size=(23, 4))
    found = unit_quantiles(torch.tensor(x), (0.0, 0.3, 1.0))
    for share, values in zip((0.0, 0.3, 1.0), found, strict=True):
        same(values, np.quantile(x, share, axis=0), 1e-12)


def test_a_selection_of_the_fit_is_the_same_in_any_shards():
    given = setting("mlp_bn")
    detector = gradood.VRA(samples=9)
    monitor = gradood.Monitor(given.network, detector).fit(given.fit_data)
    once = dict(monitor.states["vra"])
    shards = [monitor.accumulate([batch]) for batch in given.fit_data]
    merged = shards[-1]
    for shard in shards[:-1]:
        merged = monitor.merge(merged, shard)
    monitor.finish(merged)
    assert all(torch.allclose(monitor.states["vra"][k], once[k], rtol=1e-12) for k in once)
    everything = gradood.Monitor(given.network, gradood.VRA()).fit(given.fit_data)
    assert not torch.allclose(everything.states["vra"]["low"], once["low"])


def test_units_that_are_all_silent_are_refused():
    given = setting("mlp_bn")
    with torch.no_grad():
        given.network.norm2.bias.fill_(-100.0)
    with pytest.raises(DataError, match=r"vra would clip all units .* a higher eta_beta"):
        gradood.Monitor(given.network, "vra").fit(given.fit_data)
