"""Settings that the fit data cannot bear are told at the fit."""

import pickle
import warnings

import pytest
import torch
from torch import nn

import gradood
from gradood.errors import ConfigError, MeaninglessScoreWarning, TapError
from gradood.taps import observe

X = torch.randn(64, 3, 6, 6, generator=torch.Generator().manual_seed(0))
Y = torch.arange(64) % 4


class Net(nn.Module):
    """A CNN; `scale` sets how large its features are."""

    def __init__(self, scale=1.0):
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.norm = nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8)
        self.pool, self.fc, self.scale = nn.MaxPool2d(2), nn.Linear(8, 4), scale

    def forward(self, x):
        x = self.pool(torch.relu(self.norm(self.conv(x))))
        return self.fc(self.scale * x.mean((2, 3)))


def fitted(detector, scale=1.0, n=64):
    return gradood.Monitor(Net(scale).eval(), detector).fit([(X[:n], Y[:n])])


@pytest.mark.parametrize(
    ("detector", "n", "scale", "said"),
    [
        (
            gradood.KNN(),
            64,
            1,
            r"knn with k=50 looks further .* 64 samples of 4 classes. Fit on 200",
        ),
        (gradood.KNN(k=30), 64, 1, "k=30 looks further than a class reaches"),
        (gradood.NNGuide(k=40), 64, 1, "nnguide with k=40 looks further"),
        (gradood.LowDimGrad(k=20), 64, 1, "low-dim-grad with k=20 looks further"),
        (gradood.GROOD(ood_prototype="class-mean", bank="all", k=20), 64, 1, "grood with k=20"),
        (
            gradood.Residual(dimension=7),
            7,
            1,
            "residual was fitted on 7 samples, which a principal",
        ),
        (gradood.NECO(dimension=7), 7, 1, "neco was fitted on 7 samples"),
        (gradood.Gram(), 6, 1, "fewer than two of each"),
        (gradood.LINe(clip=99), 64, 1, "line with clip=99 clips no fit feature"),
        (gradood.LINe(clip=1), 64, 1e3, "line with clip=1 clips 100% of the active fit features"),
    ],
)
def test_settings_beyond_the_fit_data_warn(detector, n, scale, said):
    with pytest.warns(MeaninglessScoreWarning, match=said):
        fitted(detector, scale, n)


@pytest.mark.parametrize(
    "detector",
    [
        gradood.KNN(k=10),
        gradood.KNN(k=1),
        gradood.NNGuide(),
        gradood.LowDimGrad(),
        gradood.Residual(dimension=4),
        gradood.Gram(),
        gradood.LINe(clip="auto"),
        gradood.LINe(clip=0.8),
    ],
    ids=repr,
)
def test_settings_that_suit_it_do_not(detector):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fitted(detector)


def test_a_hundred_classes_bear_a_tenth_of_the_bank():
    """Published on ImageNet: k = 1,000 of 12,811 samples of 1,000 classes."""
    from gradood.detectors._shared.fit_data import check_neighbors

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_neighbors(12_811, 1000, "knn", 1000)
        check_neighbors(50_000, 50, "knn", 10)


def test_line_on_signed_features_warns():
    model = nn.Sequential(nn.Flatten(), nn.Linear(108, 8), nn.Linear(8, 4)).eval()
    with pytest.warns(MeaninglessScoreWarning, match="line says little on signed features"):
        gradood.Monitor(model, gradood.LINe(clip="auto")).bind(X)


@pytest.mark.parametrize("method", ["gram", "gaia-z", "gaia-a", "nac"])
def test_monitors_can_be_pickled(method):
    monitor = fitted(method)
    again = pickle.loads(pickle.dumps(monitor))
    assert torch.equal(again.score(X), monitor.score(X))


class Branch(Net):
    """With normalization layers that the logits do not depend on."""

    def __init__(self):
        super().__init__()
        self.aside = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU())

    def forward(self, x):
        self.last = self.aside(x).detach()
        return super().forward(x)


@pytest.mark.parametrize("method", ["gaia-a", "gaia-z", "gram"])
def test_default_layers_leave_out_what_the_logits_do_not_depend_on(method):
    model = Branch().eval()
    assert [layer.name for layer in observe(model, X).norms] == ["norm"]
    monitor = gradood.Monitor(model, method).fit([(X, Y)])
    plain = Net().eval()
    plain.load_state_dict(
        {k: v for k, v in model.state_dict().items() if not k.startswith("aside")}
    )
    expected = gradood.Monitor(plain, method).fit([(X, Y)]).score(X)
    torch.testing.assert_close(monitor.score(X), expected)


def test_grood_says_why_there_is_no_head():
    class Warm(Net):
        def forward(self, x):
            return super().forward(x) / 1.7

    with pytest.raises(TapError, match="the last linear layer could not be verified"):
        gradood.Monitor(Warm().eval(), "grood").bind(X)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: gradood.KNN(10), r"takes its options by name, such as KNN\(k=10\)"),
        (lambda: gradood.KNN(neighbors=3), "knn has no option 'neighbors'"),
        (lambda: gradood.MSP(3), "msp takes no arguments"),
        (lambda: gradood.Energy(temperature="hot"), "energy was given temperature='hot'"),
    ],
)
def test_wrong_options_are_answered(make, said):
    with pytest.raises(ConfigError, match=said):
        make()
