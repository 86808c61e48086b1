"""Inputs scaled otherwise than those of the fit are told; unusual ones are not."""

import warnings

import pytest
import torch
from torch import nn

import gradood
from gradood.errors import InputRangeWarning

GENERATOR = torch.Generator().manual_seed(4)
X = torch.rand(60, 3, 4, 4, generator=GENERATOR)
with torch.random.fork_rng():
    torch.manual_seed(4)  # The weights are those of any run, whatever was imported before.
    MODEL = nn.Sequential(nn.Flatten(), nn.Linear(48, 4)).eval()


def normalized(x):
    return (x - 0.45) / 0.22


@pytest.fixture(scope="module", params=["plain", "normalized"])
def prepared(request):
    return normalized if request.param == "normalized" else (lambda x: x)


@pytest.fixture(scope="module")
def monitor(prepared):
    made = gradood.Monitor(MODEL, [gradood.KNN(k=3), "energy"]).fit([prepared(X[:30])])
    return made.calibrate([prepared(X[30:])])


def test_another_scale_is_told_once_per_call(monitor, prepared):
    for given in (255 * X, prepared(255 * X)):
        for call in (monitor.score, monitor.predict):
            with pytest.warns(InputRangeWarning, match=r"0\.\.255 instead of 0\.\.1") as caught:
                call(given.split(7))
            assert len(caught) == 1 and caught[0].filename == __file__
    with pytest.warns(InputRangeWarning):
        gradood.Monitor(MODEL, "energy").calibrate(X).score(255 * X[:1])


# Of inputs so large, few classes are predicted.
@pytest.mark.filterwarnings("ignore::gradood.errors.CoverageWarning")
def test_a_calibration_of_another_scale_is_told(prepared):
    monitor = gradood.Monitor(MODEL, gradood.KNN(k=3)).fit([prepared(X[:30])])
    with pytest.warns(InputRangeWarning):
        monitor.calibrate([255 * X[30:]])


def test_a_loaded_monitor_knows_the_range(monitor, tmp_path):
    monitor.save(tmp_path / "monitor.safetensors")
    with pytest.warns(InputRangeWarning):
        gradood.load(tmp_path / "monitor.safetensors", MODEL).score(255 * X)


def test_unusual_inputs_are_no_mistake(monitor, prepared):
    spot = prepared(X[:2]).clone()
    spot[0, 0, 0, 0] = 255.0
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for given in (
            prepared(torch.zeros(2, 3, 4, 4)),
            prepared(torch.ones(2, 3, 4, 4)),
            normalized(X),
            100 * torch.randn(9, 3, 4, 4, generator=GENERATOR),
            1e6 * X,
            torch.full((1, 3, 4, 4), torch.nan),
            spot,
            X[:0],
        ):
            monitor.score(given)
        gradood.Monitor(MODEL, "energy").score(255 * X)  # Nothing was seen to compare with.
