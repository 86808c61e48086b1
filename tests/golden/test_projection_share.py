"""The share of the projection against a singular value decomposition."""

import pytest
import torch
from naive.label_gradients import projection_share
from package import NAMES, same, setting

import gradood
from gradood.errors import ConfigError, DataError, TapError


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("threshold", [0.5, 0.97, 1.0])
def test_the_share_is_its_formula(name, threshold):
    given = setting(name)
    expected = projection_share(given.features(given.x), given.features(given.fit_x), threshold)
    detector = gradood.ProjectionShare(threshold=threshold)
    same(given.scores(detector, fit=True), expected, relative=1e-8)


def test_gradorth_is_the_share_times_the_length_of_the_gradient():
    given = setting("mlp_bn")
    share = given.scores(gradood.ProjectionShare(), fit=True)
    gradient = given.scores(gradood.GradNorm(order=2), fit=True)
    same(given.scores(gradood.GradOrth(), fit=True), -share * gradient, relative=1e-8)


def test_a_feature_without_length_is_nowhere():
    model = torch.nn.Sequential(torch.nn.Identity(), torch.nn.Linear(3, 2)).double().eval()
    fit = torch.tensor([[1.0, 0.0, 0.0], [2.0, 0.0, 0.0]], dtype=torch.float64)
    monitor = gradood.Monitor(model, "projection-share").fit(fit)
    at = torch.tensor([[0.0, 0.0, 0.0], [3.0, 4.0, 0.0], [5.0, 0.0, 0.0]], dtype=torch.float64)
    same(monitor.score(at), [0.0, -0.6, -1.0])


def test_what_spans_nothing_is_refused():
    model = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.ReLU(), torch.nn.Linear(3, 2))
    model[0].bias.data.fill_(-1e6)
    monitor = gradood.Monitor(model.eval(), "projection-share")
    with pytest.raises(DataError, match=r"projection-share was fitted on features that are all"):
        monitor.fit(torch.randn(40, 4))
    narrow = torch.nn.Sequential(torch.nn.Linear(4, 1), torch.nn.ReLU(), torch.nn.Linear(1, 3))
    with pytest.raises(TapError, match=r"projection-share compares directions .* Leave proj"):
        gradood.Monitor(narrow.eval(), "projection-share").bind(torch.randn(32, 4))
    with pytest.raises(ConfigError, match=r"threshold=0; expected a number above 0"):
        gradood.ProjectionShare(threshold=0)
