"""ExGrad against autograd, label by label."""

from math import exp, inf

import pytest
import torch
from naive.label_gradients import exgrad
from package import NAMES, same, setting

import gradood
from gradood.functional.exgrad import expected_gradient_norm


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("order", [1, 2, 3.5, inf])
@pytest.mark.parametrize("bias", [True, False])
def test_exgrad_is_its_formula(name, order, bias):
    given = setting(name)
    h = given.features(given.x)
    expected = exgrad(h, given.weight, given.bias, order, bias)
    same(given.scores(gradood.ExGrad(order=order, bias=bias)), expected)


def test_a_head_without_bias_has_no_gradient_for_one(rng):
    h, W = rng.normal(size=(9, 6)), rng.normal(size=(4, 6))
    model = torch.nn.Sequential(torch.nn.Identity(), torch.nn.Linear(6, 4, bias=False)).double()
    model[1].weight.data.copy_(torch.tensor(W))
    same(gradood.Monitor(model, gradood.ExGrad()).score(torch.tensor(h)), exgrad(h, W, None))


@pytest.mark.parametrize("gap", [1.0, 40.0, 300.0])
@pytest.mark.parametrize("order", [1.0, 2.0, inf])
def test_confident_predictions_keep_their_precision(gap, order):
    """Two classes: p (1 − p) twice, where 1 − p is far below the rounding of p."""
    logits = torch.tensor([[gap, 0.0], [0.0, gap]], dtype=torch.float64)
    found = expected_gradient_norm(torch.tensor([[2.0], [-2.0]]), logits, order=order)
    small = exp(-gap) / (1 + exp(-gap))
    length = {1.0: 2.0, 2.0: 2.0**0.5, inf: 1.0}[order]
    same(found, [2 * length * 2 * small / (1 + exp(-gap))] * 2, relative=1e-12)
