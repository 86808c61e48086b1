"""Settings that the fit data cannot bear are told at the fit."""

import math
import pickle
import warnings
from pathlib import Path

import pytest
import torch
from torch import nn

import gradood
from gradood.errors import ConfigError, DataError, MeaninglessScoreWarning, TapError
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
            gradood.KNN(k=50),
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
        (gradood.Gram(), 6, 1, "gram says little here: the 6 fit samples are .* 1 of 4 classes"),
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
        gradood.KNN(),
        gradood.KNN(k=10),
        gradood.KNN(k=1),
        gradood.NNGuide(),
        gradood.LowDimGrad(),
        gradood.Residual(dimension=4),
        gradood.LINe(clip="auto"),
        gradood.LINe(clip=0.8),
    ],
    ids=repr,
)
def test_settings_that_suit_it_do_not(detector):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fitted(detector)


@pytest.mark.parametrize("method", ["knn", "low-dim-grad", "nnguide", "vim"])
@pytest.mark.parametrize("n", [4, 8, 20, 64])
def test_automatic_settings_adapt_to_few_samples_in_silence(method, n):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        monitor = fitted(method, n=n)
    assert bool(monitor.score(X).isfinite().all())
    state = monitor.states[method]
    if "k" in state:
        assert int(state["k"]) == max(1, math.isqrt(n // 4))


@pytest.mark.parametrize(
    ("samples", "classes", "most", "k"),
    [(0, 10, 50, 1), (9, 10, 50, 1), (250, 10, 50, 5), (50_000, 10, 50, 50), (80, 0, 50, 8),
     (1_281_167, 1000, 50, 35), (5000, 10, 5, 5)],
)  # fmt: skip
def test_the_automatic_neighbor(samples, classes, most, k):
    from gradood.detectors._shared.fit_data import auto_neighbors

    assert auto_neighbors(samples, classes, most) == k


@pytest.mark.parametrize(
    ("detector", "said"),
    [
        (gradood.KNN(k=9), "knn with k=9 was fitted on 8 samples"),
        (gradood.LowDimGrad(k=9), "low-dim-grad with k=9 was fitted on 8 samples"),
        (gradood.NNGuide(k=9), "nnguide with k=9 was fitted on 8 samples"),
        (gradood.ViM(dimension=7), "vim compares a feature's length outside"),
    ],
)
def test_named_settings_beyond_the_fit_data_are_refused(detector, said):
    with pytest.raises(DataError, match=said):
        fitted(detector, n=8 if "9" in said else 5)


def test_a_file_of_before_keeps_the_options_it_was_fitted_with():
    """Saved where k was 50, 5 and 10; the canary in the file holds the scores of that version."""
    path = Path(__file__).resolve().parents[2] / "golden" / "options_before_0036.safetensors"
    monitor = gradood.load(path, Net().eval())
    options = {name: detector.options() for name, detector in monitor.detectors.items()}
    assert [options[name]["k"] for name in ("knn", "low-dim-grad", "nnguide")] == [50, 5, 10]
    scores = monitor.score(X)
    assert list(scores) == ["knn", "low-dim-grad", "nnguide", "vim", "nac", "gram"]
    assert all(bool(found.isfinite().all()) for found in scores.values())


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


@pytest.mark.filterwarnings("ignore:gram says little here")
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


@pytest.mark.filterwarnings("ignore:gram says little here")
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
