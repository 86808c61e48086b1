"""Features that the user names: what a layer gives, where no linear layer takes them."""

import json

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import gradood
from gradood.errors import ConfigError, TapError

READERS = ["knn", "mahalanobis++", "rmds", "relation", "she", "neco", "projection-share"]


class CosineOverParameter(nn.Module):
    """Convolutions, and a bounded cosine to a bare parameter: no layer takes the features."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.Conv2d(8, 6, 3), nn.ReLU(True)
        )
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.directions = nn.Parameter(torch.randn(4, 6))

    def forward(self, x):
        features = F.normalize(self.pool(self.body(x)).flatten(1), dim=1)
        return 9 * torch.tanh(features @ F.normalize(self.directions, dim=1).T)


class LinearHead(CosineOverParameter):
    """The same features, taken by a linear layer."""

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(6, 4)

    def forward(self, x):
        return self.fc(self.pool(self.body(x)).flatten(1))


class Tokens(nn.Module):
    """A mean over attended positions inside, and no linear layer at the end."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(20, 5)
        self.norm = nn.LayerNorm(5)
        self.scale = nn.Parameter(torch.randn(3, 5))

    def forward(self, input_ids, attention_mask):
        h = self.norm(self.embed(input_ids))
        weight = attention_mask[..., None].to(h)
        h = (h * weight).sum(1) / weight.sum(1)
        return torch.tanh(h @ self.scale.T)


class ChannelsLast(nn.Module):
    """A map (batch, height, width, channels)."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 5, 3)
        self.norm = nn.LayerNorm(5)
        self.scale = nn.Parameter(torch.randn(3, 5))

    def forward(self, x):
        return torch.tanh(self.norm(self.conv(x).movedim(1, 3)).mean((1, 2)) @ self.scale.T)


@pytest.fixture
def data():
    x = torch.randn(120, 3, 6, 6, generator=torch.Generator().manual_seed(0))
    return x, torch.arange(120) % 4


def made(kind):
    torch.manual_seed(0)
    return kind().eval()


@pytest.mark.parametrize("name", ["pool", "body", "body.3"])
def test_methods_of_features_run_on_what_a_layer_gives(data, name):
    x, y = data
    monitor = gradood.Monitor(made(CosineOverParameter), READERS, features=name).fit([(x, y)])
    scores = monitor.score(x[:8])
    assert set(scores) == set(READERS)
    assert all(bool(score.isfinite().all()) for score in scores.values())


def test_the_features_are_those_of_a_linear_head(data):
    x, y = data
    model = made(LinearHead)
    found = gradood.Monitor(model, READERS).fit([(x, y)]).score(x[:8])
    named = gradood.Monitor(model, READERS, features="pool").fit([(x, y)]).score(x[:8])
    for detector in READERS:
        torch.testing.assert_close(named[detector], found[detector], rtol=1e-6, atol=1e-9)


def test_positions_that_a_mask_leaves_out_do_not_count():
    model = made(Tokens)
    ids = torch.randint(1, 20, (40, 6), generator=torch.Generator().manual_seed(0))
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    wide = {key: F.pad(value, (0, 5)) for key, value in inputs.items()}
    monitor = gradood.Monitor(model, "knn", features="norm").fit([inputs])
    torch.testing.assert_close(monitor.score(wide), monitor.score(inputs), rtol=1e-5, atol=1e-7)
    assert (
        "the 5 features are what 'norm' gives"
        in gradood.inspect(model, inputs, features="norm").head
    )


def test_channels_may_be_last(data):
    x, _ = data
    model = made(ChannelsLast)
    monitor = gradood.Monitor(model, "knn", features="norm").fit([x[:60]])
    result = monitor.calibrate([x[60:]]).predict(x[:4], keep=("features",))
    expected = model.norm(model.conv(x[:4]).movedim(1, 3)).mean((1, 2)).detach()
    torch.testing.assert_close(result.features, expected)


@pytest.mark.parametrize("detector", ["gradnorm", "vim", "react", "nci", "caref", "grood"])
def test_what_reads_the_weights_of_a_head_is_refused(data, detector):
    x, y = data
    monitor = gradood.Monitor(made(CosineOverParameter), detector, features="pool")
    with pytest.raises(TapError, match=rf"^{detector} reads the weights of a last linear layer"):
        monitor.fit([(x, y)])


def test_every_detector_runs_or_refuses(data):
    x, y = data
    model = made(CosineOverParameter)
    monitor = gradood.Monitor(model, "all", features="pool").fit([(x, y)])
    scores = monitor.score(x[:4])
    assert {"knn", "mahalanobis", "energy", "nnguide"} <= set(scores)
    uses = gradood.inspect(model, x[:4], features="pool").uses
    assert {use.method for use in uses if use.works} == set(scores)


@pytest.mark.parametrize(
    "options, error, words",
    [
        ({"features": "nowhere"}, TapError, "no layer 'nowhere'; choose from"),
        ({"features": "body", "head": "pool"}, ConfigError, "name one"),
        ({"features": 3}, ConfigError, "expected the name of a layer, such as 'pool'"),
        ({"features": ["body"]}, ConfigError, "expected the name of a layer"),
    ],
)
def test_what_is_no_such_layer_is_named(data, options, error, words):
    with pytest.raises(error, match=words):
        gradood.Monitor(made(CosineOverParameter), "knn", **options).fit([data[0]])


def test_a_layer_that_runs_twice_is_refused(data):
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 3, 1)

        def forward(self, x):
            return torch.tanh(self.conv(self.conv(x)).mean((2, 3)))

    with pytest.raises(TapError, match="'conv' runs 2 times"):
        gradood.Monitor(made(Twice), "knn", features="conv").fit([data[0]])


def test_a_file_keeps_the_name(data, tmp_path):
    x, y = data
    model = made(CosineOverParameter)
    monitor = gradood.Monitor(model, READERS, features="pool").fit([(x[:80], y[:80])])
    monitor.calibrate([x[80:]]).save(tmp_path / "file.safetensors")
    loaded = gradood.load(tmp_path / "file.safetensors", model)
    before, after = monitor.predict(x[:8]), loaded.predict(x[:8])
    assert all(torch.equal(before[name].score, after[name].score) for name in READERS)
    loaded.fit([(x[:80], y[:80])])  # Read as the file says, without naming it again.
    assert torch.equal(loaded.score(x[:8])["knn"], before["knn"].score)


def test_a_guard_reads_them(data):
    x, y = data
    guard = gradood.guard(made(CosineOverParameter), [(x, y)], features="pool")
    assert "head" not in guard.detectors
    assert guard(x[:4]).shape == (4,)
    with pytest.raises(TapError, match="no layer 'nowhere'"):
        gradood.guard(made(CosineOverParameter), [(x, y)], features="nowhere")


def test_units_are_not_told_apart_and_maps_are(data):
    x, y = data
    monitor = gradood.Monitor(made(CosineOverParameter), "knn", features="pool")
    monitor.fit([(x[:60], y[:60])]).calibrate([x[60:]]).remember([(x, y)])
    assert "the features alone are named" in str(monitor.explain(x[:1])[0])
    for gap in gradood.region_map(monitor, x[:1], method="path").gap.values():
        assert bool(gap.isfinite().all())
    with pytest.raises(TapError, match="features='pool'"):
        gradood.region_map(monitor, x[:1], method="channels")


def test_the_shell_takes_both_names(tmp_path, monkeypatch, capsys):
    from gradood.cli import main

    (tmp_path / "own.py").write_text(
        "import torch\nfrom tests.unit.taps.test_named_features import CosineOverParameter\n"
        "def make():\n    torch.manual_seed(0)\n    return CosineOverParameter()\n"
    )
    monkeypatch.chdir(tmp_path)
    command = ["inspect", "--model", "own:make", "--shape", "3,6,6", "--json"]
    assert main([*command, "--features", "pool"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["head"] == "none; the 6 features are what 'pool' gives, mean over positions"
    assert main([*command, "--head", "pool"]) == 0
    assert "head named 'pool'" in json.loads(capsys.readouterr().out)["head"]
