"""GradOrth against autograd and a singular value decomposition."""

import pytest
import torch
from naive.label_gradients import gradorth
from package import NAMES, same, setting

import gradood
from gradood.errors import DataError


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("threshold", [0.5, 0.97, 1.0])
def test_gradorth_is_its_formula(name, threshold):
    given = setting(name)
    h, fit_h = given.features(given.x), given.features(given.fit_x)
    expected = gradorth(h, fit_h, given.weight, given.bias, threshold)
    same(given.scores(gradood.GradOrth(threshold=threshold), fit=True), expected, relative=1e-8)


def test_all_directions_are_gradnorm():
    given = setting("mlp_bn", n=20, fit=60)
    scores = given.scores(gradood.GradOrth(threshold=1.0), fit=True)
    same(scores, given.scores(gradood.GradNorm(order=2)), relative=1e-8)


def test_samples_do_not_need_labels_and_may_be_fewer_than_dimensions():
    given = setting("mlp_bn")
    monitor = gradood.Monitor(given.network, gradood.GradOrth(threshold=0.999))
    few = given.fit_x[:4]
    expected = gradorth(
        given.features(given.x), given.features(few), given.weight, given.bias, 0.999
    )
    same(monitor.fit(few).score(given.x), expected, relative=1e-7)


def test_features_that_are_all_zero_are_refused():
    model = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.ReLU(), torch.nn.Linear(3, 2))
    model[0].bias.data.fill_(-1e6)
    monitor = gradood.Monitor(model.eval(), "gradorth")
    with pytest.raises(DataError, match=r"gradorth was fitted on features that are all zero"):
        monitor.fit(torch.randn(40, 4))
