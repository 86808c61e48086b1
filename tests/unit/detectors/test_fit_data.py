"""What a fit refuses, and that no default device or type of the user's gets into a state."""

import pytest
import torch
from torch import nn

import gradood
from gradood.errors import DataError

X = torch.randn(40, 3, 6, 6, generator=torch.Generator().manual_seed(5))
Y = torch.arange(40) % 4


class Net(nn.Module):
    """Finite inputs beyond 50 overflow."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.second, self.last = nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.fc = nn.Linear(8, 4)

    def forward(self, x):
        x = torch.where(x.abs() > 50, torch.inf * x, x)
        x = torch.relu(self.norm(self.conv(x)))
        return self.fc(torch.relu(self.last(self.second(x))).mean((2, 3)))


LEARNERS = [
    gradood.KNN(k=3),
    gradood.LINe(clip=1.0),
    gradood.LINe(clip="auto", contribution="absolute"),
    gradood.Mahalanobis(),
    gradood.GROOD(n_synthetic=5),
    gradood.GROOD(ood_prototype="noise", n_synthetic=3),
    gradood.GROOD(ood_prototype="class-mean", score="norm"),
]


@pytest.mark.parametrize("detector", LEARNERS[:5], ids=repr)
def test_features_that_are_not_finite_are_refused(detector):
    x = X.clone()
    x[3] = 100.0
    monitor = gradood.Monitor(Net().eval(), detector)
    with pytest.raises(DataError, match=r"NaN or infinity.*which the model made of finite inputs"):
        monitor.fit([(x, Y)])


def test_a_clip_at_zero_is_refused():
    class Sparse(Net):
        def forward(self, x):
            return self.fc(torch.zeros(len(x), 8))

    monitor = gradood.Monitor(Sparse().eval(), gradood.LINe(clip="auto"))
    with pytest.raises(DataError, match="at the largest of the fit features, which is 0 here"):
        monitor.fit([(X, Y)])


@pytest.mark.parametrize(
    "detector",
    [*LEARNERS, gradood.GAIAZ(), gradood.GAIAZ(path="backward"), gradood.GAIAA()],
    ids=repr,
)
@pytest.mark.filterwarnings("ignore:line with clip=1 clips no fit feature")
def test_the_default_device_and_type_do_not_matter(detector):
    model = Net().eval()
    expected = gradood.Monitor(model, detector).fit([(X, Y)]).score(X)
    torch.set_default_dtype(torch.float64)
    try:
        with torch.device("meta"):
            found = gradood.Monitor(model, detector).fit([(X, Y)]).score(X)
    finally:
        torch.set_default_dtype(torch.float32)
    assert torch.equal(found, expected)


def test_noise_is_drawn_for_where_the_model_is_now(monkeypatch):
    """The model may have moved since it was observed."""
    from gradood.detectors._shared import outliers
    from gradood.taps import observe

    network = observe(Net().eval(), X)
    asked = []
    monkeypatch.setattr(type(network), "device", property(lambda _: asked.append(1) or X.device))
    ranges = torch.stack([X.amin((2, 3)), X.amax((2, 3))], 1)
    outliers.noise_features(network, outliers.input_extremes(ranges), 2)
    assert asked
