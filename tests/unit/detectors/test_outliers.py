"""Outliers made from in-distribution data: where to cut, what is mixed, which noise is kept."""

import pytest
import torch
from torch import nn

from gradood.detectors._shared import outliers
from gradood.detectors._shared.outliers import EarlyMixing, find_cut, input_extremes, noise_features
from gradood.errors import DataError, TapError
from gradood.taps import observe
from gradood.testing import networks


class Skipping(nn.Module):
    """Everything after `first` also depends on the input, so that no layer is a cut."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(6, 6), nn.Linear(6, 6)
        self.head = nn.Linear(6, 3)

    def forward(self, x):
        return self.head(torch.relu(self.second(torch.relu(self.first(x))) + x))


def cut(name: str | None, network: str = "plain-cnn"):
    given = networks()[network]
    x = given.inputs(32)
    return find_cut(observe(given.model(), x), x, name)


@pytest.mark.parametrize(
    ("network", "layer"),
    [("resnet", "layer1"), ("densenet", "block1"), ("groupnorm", "block1"), ("mlp", "linear1")],
)
def test_the_default_cut_is_the_first_stage_or_a_quarter_of_the_way(network, layer):
    assert str(cut(None, network)) == layer


def test_a_named_layer_is_taken_if_all_that_follows_depends_on_it_alone():
    assert str(cut("norm2")) == "norm2"
    with pytest.raises(TapError, match="did you mean 'norm1'"):
        cut("norm1x")


@pytest.mark.parametrize("name", [None, "first"])
def test_a_layer_that_the_input_goes_around_is_no_cut(name):
    x = torch.randn(32, 6)
    with pytest.raises(TapError, match=r"grood .* tried first.*ood_prototype='class-mean'"):
        find_cut(observe(Skipping(), x), x, name)


def mixing(n: int = 100, seed: int = 0):
    generator = torch.Generator().manual_seed(seed)
    early = torch.randn(12, 3, 2, generator=generator)
    logits = torch.randn(12, 4, generator=generator)
    labels = torch.arange(12) % 4
    keys = torch.randperm(12, generator=generator) - 5
    return early, logits, labels, keys, EarlyMixing.of(early, logits, labels, keys, n)


def test_each_outlier_mixes_a_sample_with_the_mean_of_its_second_class():
    early, logits, labels, keys, found = mixing()
    second = logits.argsort(1)[:, -2]
    means = torch.stack([early[labels == c].mean(0) for c in range(4)])
    order = keys.argsort()
    expected = 0.3 * early[order] + 0.7 * means[second[order]]
    torch.testing.assert_close(found.outliers(0.3), expected)


def test_the_samples_with_the_smallest_keys_are_kept():
    early, logits, labels, keys, _ = mixing()
    parts = [
        EarlyMixing.of(early[i::3], logits[i::3], labels[i::3], keys[i::3], 5) for i in range(3)
    ]
    merged = parts[2].merge(parts[0]).merge(parts[1])
    torch.testing.assert_close(merged.outliers(1.0), early[keys.argsort()[:5]])


def test_a_second_class_without_samples_is_left_out():
    early, logits, labels, keys, _ = mixing()
    second = logits.argsort(1)[:, -2]
    kept = labels != 1
    found = EarlyMixing.of(early[kept], logits[kept], labels[kept], keys[kept], 100)
    assert len(found.outliers(0.5)) == int((second[kept] != 1).sum())


def test_no_usable_sample_is_an_error_that_says_what_to_do():
    logits = torch.tensor([[1.0, 2.0, 0.0]]).expand(4, 3)
    labels, keys = torch.full((4,), 2), torch.arange(4)
    found = EarlyMixing.of(torch.randn(4, 5), logits, labels, keys, 10)
    with pytest.raises(DataError, match=r"second most likely class.*'class-mean'"):
        found.outliers(0.5)
    with pytest.raises(DataError, match="one class"):
        EarlyMixing.of(torch.randn(4, 5), torch.zeros(4, 1), torch.zeros(4).long(), keys, 10)


def test_beyond_the_budget_a_seeded_part_of_the_classes_is_used(monkeypatch):
    monkeypatch.setattr(outliers, "_BUDGET", 8 * 6 * 2)
    early, logits, labels, keys, found = mixing()
    assert found.means.mean.shape == (2, 6)
    again = EarlyMixing.of(early, logits, labels, keys, 100)
    assert torch.equal(found.means.mean, again.means.mean)
    assert 0 < len(found.outliers(0.5)) < 12


def test_rounding_to_float32_does_not_depend_on_the_order_of_a_sum():
    """The mean of two float32 numbers lies between two of them, give or take the last bit."""
    values = torch.tensor([1.0, 1.0 + 2**-23], dtype=torch.float64)
    middle = values.mean()
    noise = torch.tensor([-1, 0, 1], dtype=torch.float64) * 2**-52
    settled = outliers._settled(middle + noise)
    assert len(settled.float().unique()) == 1
    assert float((settled - middle).abs().max()) < 2**-40


def test_noise_spans_the_range_of_the_data_and_keeps_the_highest_energies():
    given = networks()["plain-cnn"]
    network = observe(given.model(), given.inputs(32))
    x = torch.rand(20, 3, 8, 8) * torch.tensor([1.0, 2.0, 3.0])[:, None, None]
    flat = x.flatten(2)
    extremes = input_extremes(torch.stack([flat.amin(2), flat.amax(2)], 1))
    torch.testing.assert_close(extremes.high, x.amax((0, 2, 3)))
    torch.testing.assert_close(extremes.low, x.amin((0, 2, 3)))
    features = noise_features(network, extremes, 4)
    assert features.shape == (4, 12)
    assert torch.equal(features, noise_features(network, extremes, 4))
