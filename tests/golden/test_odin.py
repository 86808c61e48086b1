"""ODIN against autograd, row by row."""

import pytest
import torch
from naive import perturbed
from package import NAMES, same, setting
from torch import nn

import gradood


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("temperature", "noise"), [(1000.0, 0.0014), (1.0, 0.05)])
def test_odin_is_its_formula(name, temperature, noise):
    given = setting(name)
    scores = given.scores(gradood.ODIN(temperature=temperature, noise=noise))
    same(scores, perturbed.odin(given.network, given.x, temperature, noise))


def test_odin_divides_the_step_by_the_deviation_of_each_channel():
    given = setting("plain_cnn")
    std = (0.2, 1.3, 0.7)
    scores = given.scores(gradood.ODIN(temperature=2.0, noise=0.01, std=std))
    same(scores, perturbed.odin(given.network, given.x, 2.0, 0.01, std))
    one = given.scores(gradood.ODIN(temperature=2.0, noise=0.01, std=[0.5]))
    same(one, given.scores(gradood.ODIN(temperature=2.0, noise=0.02)))


def test_odin_of_a_linear_model_in_closed_form(rng):
    """∇ log S = (W_ŷ − Σ_c p_c W_c) / T."""
    W, b = torch.tensor(rng.normal(size=(4, 6))), torch.tensor(rng.normal(size=4))
    model = nn.Linear(6, 4).double()
    with torch.no_grad():
        model.weight.copy_(W)
        model.bias.copy_(b)
    x = torch.tensor(rng.normal(size=(9, 6)))
    T, noise = 7.0, 0.3
    z = x @ W.T + b
    gradient = (W[z.argmax(1)] - torch.softmax(z / T, 1) @ W) / T
    moved = (x + noise * gradient.sign()) @ W.T + b
    expected = -torch.softmax(moved / T, 1).amax(1)
    scores = gradood.Monitor(model, gradood.ODIN(temperature=T, noise=noise)).score(x)
    same(scores, expected)


def test_odin_raises_the_probability_of_the_predicted_class():
    given = setting("plain_cnn", n=30)
    hot = torch.softmax(given.logits(given.x) / 1000, 1).amax(1)
    assert (-given.scores(gradood.ODIN(noise=0.001)) > hot.numpy()).all()


def test_where_there_is_no_gradient_nothing_moves():
    """The released code would move the input's second half down."""

    class Half(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(3, 2)

        def forward(self, x):
            # The other half has an influence that has no gradient.
            return self.fc(x[:, :3]) + (x[:, 3:] < 0).sum(1, keepdim=True) * torch.tensor([0, 5.0])

    model = Half().double()
    x = torch.tensor([[0.3, -0.2, 0.1, 0.0, 0.0]], dtype=torch.float64)
    same(
        gradood.Monitor(model, gradood.ODIN(temperature=1.0, noise=0.01)).score(x),
        perturbed.odin(model, x, 1.0, 0.01),
    )
    with torch.no_grad():
        assert float(model(x)[0, 1] - model(x - 0.01)[0, 1]) < -4


@pytest.mark.parametrize("kind", [gradood.ODIN, gradood.IODIN])
def test_the_deviation_is_that_of_the_preprocessing(kind):
    given = setting("plain_cnn")
    std = (0.2, 1.3, 0.7)
    expected = gradood.Monitor(given.network, kind(noise=0.01, std=std)).score(given.x)
    known = {"mean": (0.1, 0.2, 0.3), "std": list(std)}
    monitor = gradood.Monitor(given.network, kind(noise=0.01), preprocess=known)
    assert torch.equal(monitor.score(given.x), expected)
    (note,) = monitor.bind(given.x).plans[kind.name].notes
    assert note == "the step is divided by the preprocessing's std (0.2, 1.3, 0.7)"


@pytest.mark.parametrize(
    ("preprocess", "note"),
    [
        (None, "the preprocessing is not known"),
        ({"std": "as in the paper"}, "the preprocessing is not known"),
        ({"std": (0.2, 0.3)}, "the preprocessing is not known"),
        ({"std": None}, r"the step is divided by the preprocessing's std (1.0,)"),
    ],
)
def test_the_step_is_on_the_inputs_where_nobody_knows(preprocess, note):
    given = setting("plain_cnn")
    expected = gradood.Monitor(given.network, gradood.ODIN(std=None)).score(given.x)
    monitor = gradood.Monitor(given.network, "odin", preprocess=preprocess)
    assert torch.equal(monitor.score(given.x), expected)
    assert monitor.bind(given.x).plans["odin"].notes[0].startswith(note)


def test_a_model_that_normalizes_its_inputs_takes_the_step_before():
    class Normalize(nn.Module):
        def forward(self, x):
            return (x - 0.5) / 0.25

    model = nn.Sequential(Normalize(), nn.Flatten(), nn.Linear(12, 3)).double()
    x = torch.rand(4, 3, 2, 2, dtype=torch.float64)
    monitor = gradood.Monitor(model, "odin", preprocess={"std": (0.2, 0.2, 0.2)})
    assert torch.equal(monitor.score(x), gradood.Monitor(model, gradood.ODIN(std=None)).score(x))
    (note,) = monitor.bind(x).plans["odin"].notes
    assert note.startswith("the model normalizes its inputs itself")
