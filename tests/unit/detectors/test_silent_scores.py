"""Scores that say little are told at the fit, by known data alone."""

import warnings

import pytest
import torch
from torch import nn

import gradood
from gradood.errors import MeaninglessScoreWarning

CLASSES, EACH, WIDTH = 8, 20, 24
Y = torch.arange(CLASSES * EACH) % CLASSES
CENTERS = 3 * torch.eye(CLASSES, WIDTH) + 0.2


def features(*, structured: bool, seed: int = 0) -> torch.Tensor:
    """(160, 24) not negative: about the center of their class, or with no class at all."""
    noise = torch.rand(len(Y), WIDTH, generator=torch.Generator().manual_seed(seed))
    return CENTERS[Y] + 0.3 * noise if structured else 3 * noise


def last_layer() -> nn.Sequential:
    """A head that takes each center for its class."""
    head = nn.Linear(WIDTH, CLASSES)
    with torch.no_grad():
        head.weight.copy_(CENTERS - CENTERS.mean(0))
        head.bias.zero_()
    return nn.Sequential(nn.Identity(), head).eval()


def messages(model, detector, x, y) -> list[str]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        gradood.Monitor(model, detector).fit([(x, y)])
    return [str(w.message) for w in caught if w.category is MeaninglessScoreWarning]


def test_coverage_of_features_that_have_no_class_is_told():
    said = messages(last_layer(), gradood.NAC(layers=()), features(structured=False), Y)
    assert len(said) == 1
    assert "nac says little here: it reads the features alone" in said[0]


def test_coverage_of_features_that_tell_is_not():
    assert messages(last_layer(), gradood.NAC(layers=()), features(structured=True), Y) == []


def test_coverage_of_too_few_samples_to_measure_is_not():
    x = features(structured=False)
    assert messages(last_layer(), gradood.NAC(layers=()), x[:19], Y[:19]) == []
    assert len(messages(last_layer(), gradood.NAC(layers=()), x[:20], Y[:20])) == 1


def test_what_is_told_of_coverage_changes_no_state_and_no_order_changes_it():
    x = features(structured=False)
    states = []
    for order in (torch.arange(len(x)), torch.arange(len(x)).flip(0)):
        monitor = gradood.Monitor(last_layer(), gradood.NAC(layers=()))
        monitor.bind(x[:2])
        with pytest.warns(MeaninglessScoreWarning, match="nac says little here") as caught:
            monitor.fit([(x[part], Y[part]) for part in order.split(50)])
        states.append((monitor.states["nac"], str(caught[0].message)))
    assert set(states[0][0]) == {"alpha", "coverage_0"}
    assert states[0][1] == states[1][1]
    assert all(torch.equal(value, states[1][0][key]) for key, value in states[0][0].items())


class Maps(nn.Module):
    """A CNN whose head never predicts the classes from `predicted` on."""

    def __init__(self, predicted: int):
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.norm, self.fc = nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Linear(8, 4)
        with torch.no_grad():
            self.fc.weight.copy_(torch.eye(4, 8) * 50)
            self.fc.bias.copy_(torch.tensor([0.0] * predicted + [-1e3] * (4 - predicted)))

    def forward(self, x):
        maps = torch.relu(self.norm(self.conv(x)))
        return self.fc(maps.mean((2, 3)))


@pytest.mark.parametrize(("predicted", "told"), [(1, True), (2, True), (3, False), (4, False)])
def test_ranges_of_half_of_the_classes_are_told(predicted, told):
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(200, 3, 6, 6, generator=generator)
    model = Maps(predicted).eval()
    with torch.no_grad():
        assert len(model(x).argmax(1).unique()) == predicted
    said = messages(model, gradood.Gram(), x, torch.arange(200) % 4)
    expected = f"are predicted to be of {predicted} of 4 classes, and an input that is predicted"
    assert [expected in each for each in said] == [True] * told


def test_ranges_of_fewer_than_two_samples_of_each_class_are_told():
    x = torch.randn(200, 3, 6, 6, generator=torch.Generator().manual_seed(1))
    model = Maps(4).eval()
    with torch.no_grad():
        predicted = model(x).argmax(1)
    few = torch.cat([(predicted == c).nonzero()[: 2 if c == 0 else 1, 0] for c in range(4)])
    (said,) = messages(model, gradood.Gram(), x[few], predicted[few])
    assert said.startswith("gram takes ranges of each of 4 classes from 5 samples, fewer than two")


def test_gradients_of_samples_taken_for_classes_that_have_none_are_told():
    x = features(structured=True)
    kept = Y < 4
    y = Y.clone()
    assert messages(last_layer(), "low-dim-grad", x[kept], y[kept]) == []
    y[(Y == 6) & (torch.arange(len(Y)) < 80)] = 1
    taken = kept | (y != Y)
    (said,) = messages(last_layer(), "low-dim-grad", x[taken], y[taken])
    assert "takes 11% of the fit samples for one of the 4 classes of which there are none" in said


def test_gradients_of_one_sample_of_each_class_are_not():
    x = features(structured=True)
    assert messages(last_layer(), "low-dim-grad", x[:CLASSES], Y[:CLASSES]) == []
