"""i-ODIN against autograd, row by row."""

import pytest
import torch
from naive import perturbed
from package import NAMES, same, setting

import gradood


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("temperature", "noise"), [(1000.0, 0.0014), (1.0, 0.05)])
def test_i_odin_is_its_formula(name, temperature, noise):
    given = setting(name)
    scores = given.scores(gradood.IODIN(temperature=temperature, noise=noise))
    same(scores, perturbed.odin(given.network, given.x, temperature, noise, one=True))


def test_the_step_is_divided_by_the_deviation_of_its_channel():
    given = setting("plain_cnn")
    std = (0.2, 1.3, 0.7)
    scores = given.scores(gradood.IODIN(temperature=2.0, noise=0.1, std=std))
    same(scores, perturbed.odin(given.network, given.x, 2.0, 0.1, std, one=True))


def test_of_equal_gradients_the_first_value_moves():
    model = torch.nn.Linear(3, 2, bias=False).double()
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[0.0, 1.0, 1.0], [0.0, -1.0, -1.0]]))
    x = torch.tensor([[5.0, 1.0, 2.0]], dtype=torch.float64)
    moved = torch.tensor([[5.0, 1.5, 2.0]], dtype=torch.float64)
    scores = gradood.Monitor(model, gradood.IODIN(temperature=1.0, noise=0.5)).score(x)
    same(scores, -torch.softmax(model(moved), 1).amax(1).detach())
