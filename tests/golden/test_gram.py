"""Gram matrices, deviations and what to expect of them, by loops."""

import numpy as np
import pytest
import torch
from naive.arrays import Array, to_array
from package import Setting, setting
from torch import Tensor, nn

import gradood
from gradood.errors import ArtifactError, ConfigError, DataError
from gradood.evidence import (
    Activation,
    content_keys,
    gram_sums,
    read_from_plain,
    read_to_plain,
    summaries,
)
from gradood.functional.gram import Ranges
from gradood.taps import Site

# Formulas are checked on few samples, and on networks that predict a part of the classes.
pytestmark = pytest.mark.filterwarnings("ignore::gradood.errors.MeaninglessScoreWarning")

TEN = tuple(range(1, 11))
EVEN = (2, 4, 6, 8, 10)


def gram_rows(values: Array, powers: tuple[int, ...]) -> Array:
    """(powers · channels) signed roots of the row sums of F^p F^pᵀ; F is (channels, positions)."""
    found = []
    for p in powers:
        matrix = (values**p) @ (values**p).T
        for row in matrix:
            total = float(np.sum(row))
            found.append(np.sign(total) * abs(total) ** (1.0 / p))
    return np.array(found)


def outside(value: Array, others: list[Array]) -> float:
    low, high = np.min(others, 0), np.max(others, 0)
    below = np.maximum(low - value, 0) / (np.abs(low) + 1e-6)
    return float(np.sum(below + np.maximum(value - high, 0) / (np.abs(high) + 1e-6)))


def gram(layers: list[Array], z: Array, fit_layers: list[Array], fit_z: Array) -> Array:
    """Σ_l δ_l / E[δ_l] / max p; every fit sample is left out in turn for the expectation."""
    classes = fit_z.argmax(1)
    scores = np.zeros(len(z))
    for values, fit in zip(layers, fit_layers, strict=True):
        expected = 0.0
        for i, own in enumerate(fit):
            others = [fit[j] for j in range(len(fit)) if j != i and classes[j] == classes[i]]
            expected += outside(own, others) / len(fit) if others else 0.0
        for n, own in enumerate(values):
            same_class = [row for row, c in zip(fit, classes, strict=True) if c == z[n].argmax()]
            scores[n] += outside(own, same_class or list(fit)) / (expected + 1e-7)
    p = np.exp(z - z.max(1, keepdims=True))
    return scores / (p.max(1) / p.sum(1))


def sums(given: Setting, names: list[str], powers: tuple[int, ...], x: Tensor) -> list[Array]:
    """Per layer (rows, powers · channels), from outputs recorded by hooks of the test's own."""
    kept: dict[str, Tensor] = {}
    modules = dict(given.network.named_modules())
    handles = [
        modules[name].register_forward_hook(
            lambda _, __, output, name=name: kept.__setitem__(name, output.clone())
        )
        for name in names
    ]
    given.logits(x)
    for handle in handles:
        handle.remove()
    return [
        np.stack([gram_rows(to_array(row).reshape(len(row), -1), powers) for row in kept[name]])
        for name in names
    ]


CASES = {
    "post_activation_resnet": (["stage1", "stage2"], TEN),
    "pre_activation_densenet": (["block1.0", "block1.1", "block2.0", "block2.1"], EVEN),
    "plain_cnn": (["norm1", "norm2"], EVEN),
    "mlp_bn": (["norm1", "norm2"], EVEN),
}


@pytest.mark.parametrize("name", CASES)
def test_gram_is_its_formula(name):
    given = setting(name, n=12, fit=60)
    names, powers = CASES[name]
    expected = gram(
        sums(given, names, powers, given.x),
        to_array(given.logits(given.x)),
        sums(given, names, powers, given.fit_x),
        to_array(given.logits(given.fit_x)),
    )
    np.testing.assert_allclose(given.scores(gradood.Gram(), fit=True), expected, rtol=1e-6)


def test_layers_and_powers_that_are_named():
    given = setting("plain_cnn", n=9)
    expected = gram(
        sums(given, ["relu1"], (1, 3), given.x),
        to_array(given.logits(given.x)),
        sums(given, ["relu1"], (1, 3), given.fit_x),
        to_array(given.logits(given.fit_x)),
    )
    scores = given.scores(gradood.Gram(layers=["relu1"], powers=(3, 1, 3)), fit=True)
    np.testing.assert_allclose(scores, expected, rtol=1e-6)
    # Nothing but odd powers was asked for at a layer with both signs: then those are taken.
    assert np.isfinite(given.scores(gradood.Gram(layers=["norm1"], powers=(3,)), fit=True)).all()
    with pytest.raises(ConfigError, match=r"powers=\(0, 1\); expected whole numbers from 1 to 32"):
        gradood.Gram(powers=(0, 1))


def layouts() -> dict[str, tuple[Tensor, int]]:
    x = torch.randn(7, 5, 6, 4, generator=torch.Generator().manual_seed(6), dtype=torch.float64)
    x[:, 2] = 0.0
    x[3] = 0.0
    tokens = x.flatten(2).transpose(1, 2)
    return {
        "contiguous": (x, 1),
        "channels last": (x.contiguous(memory_format=torch.channels_last), 1),
        "tokens": (tokens.contiguous(), 2),
        "vectors": (x[:, :, 0, 0].contiguous(), 1),
        "single": (x.float(), 1),
        "bfloat16": (x.bfloat16(), 1),
    }


@pytest.mark.parametrize("chunk", [1 << 17, 100], ids=["one chunk", "larger than a chunk"])
@pytest.mark.parametrize("name", layouts())
@pytest.mark.parametrize("powers", [(1, 2, 3), (2, 6), (5,)])
def test_the_reduction_is_the_gram_matrix(powers, name, chunk, monkeypatch):
    monkeypatch.setattr(summaries, "_GRAM_CHUNK", chunk)
    tensor, channels = layouts()[name]
    before = tensor.clone()
    found = gram_sums(powers).reduce(tensor, channels)
    assert found.shape == (7, 5 * len(powers))
    assert found.dtype == torch.promote_types(tensor.dtype, torch.float32)
    # Relative to the row: sums of odd powers cancel.
    precision = 1e-12 if tensor.dtype == torch.float64 else 1e-6
    for row, got in zip(tensor, found, strict=True):
        values = to_array(row.double()).swapaxes(0, channels - 1).reshape(5, -1)
        for i, p in enumerate(powers):
            expected = gram_rows(values, (p,))
            mine = to_array(got[5 * i : 5 * i + 5])
            np.testing.assert_allclose(
                np.sign(mine) * np.abs(mine) ** p,
                np.sign(expected) * np.abs(expected) ** p,
                rtol=1e-9,
                atol=20 * precision * max(1e-300, float(np.abs(expected).max()) ** p),
            )
    assert torch.equal(tensor, before)
    assert gram_sums(powers).reduce(tensor[:0], channels).shape == (0, 5 * len(powers))


@pytest.mark.parametrize("scale", [1e-15, 1e4, 1e15])
def test_high_powers_neither_overflow_nor_vanish(scale):
    tensor = torch.rand(3, 4, 5, 5, generator=torch.Generator().manual_seed(1))
    found = gram_sums(TEN).reduce(scale * tensor, 1) / scale**2
    torch.testing.assert_close(found, gram_sums(TEN).reduce(tensor, 1), rtol=1e-5, atol=0)


def test_a_dim_sample_keeps_its_sums_beside_a_bright_one():
    """The tenth power of a ten-thousandth is no number in float32."""
    dim, bright = torch.rand(2, 1, 4, 5, 5, generator=torch.Generator().manual_seed(3))
    dim = 1e-5 * dim
    together = gram_sums(TEN).reduce(torch.cat([dim, 10 * bright]), 1)[:1]
    torch.testing.assert_close(together, gram_sums(TEN).reduce(dim, 1), rtol=1e-5, atol=0)


def test_ranges_of_any_shards_are_those_of_all():
    """Two outermost values per class; a class with one sample, one with none."""
    generator = torch.Generator().manual_seed(2)
    values = torch.randn(30, 4, generator=generator)
    predicted = torch.randint(0, 3, (30,), generator=generator)
    predicted[7] = 4
    once = Ranges.of([values[:, :3], values[:, 3:]], predicted, 5)
    shards = [
        Ranges.of([values[i::4, :3], values[i::4, 3:]], predicted[i::4], 5) for i in (2, 0, 3, 1)
    ]
    merged = shards[0].merge(shards[1]).merge(shards[2].merge(shards[3]))
    for name, tensor in merged.tensors().items():
        assert torch.equal(tensor, once.tensors()[name])
    assert once.by_class().rows.tolist() == [0, 1, 2, 4]
    assert once.low[1, 3].tolist() == [torch.inf] * 4
    by_class = once.by_class()
    assert torch.equal(by_class.low, once.low) and torch.equal(by_class.high, once.high)
    once, merged = by_class, merged.by_class()
    # A batch holds nothing of the classes that are not in it.
    assert Ranges.of([values[7:8]], predicted[7:8], 1000).low.shape == (2, 1, 4)
    torch.testing.assert_close(merged.expected(), once.expected(), rtol=1e-12, atol=0)
    low, high = once.filled()
    assert torch.equal(low[3], values.amin(0)) and torch.equal(high[3], values.amax(0))
    assert torch.equal(low[4], values[7]) and torch.equal(high[4], values[7])


def test_ranges_are_of_a_seeded_few_in_any_order():
    """The few are those whose keys begin with the most zeros, and just enough of them."""
    generator = torch.Generator().manual_seed(4)
    values = torch.randn(900, 3, generator=generator)
    predicted = torch.randint(0, 3, (900,), generator=generator)
    predicted[predicted == 2] = torch.tensor(0)
    predicted[:5] = 2
    keys = content_keys(values)

    def ranges(rows):
        return Ranges.of([values[rows]], predicted[rows], 4, keys=keys[rows], enough=20)

    once = ranges(torch.arange(900))
    for shards in (
        [range(0, 900, 2), range(1, 900, 2)],
        [range(i, i + 90) for i in range(0, 900, 90)],
    ):
        for order in (shards, shards[::-1]):
            merged = ranges(torch.tensor(order[0]))
            for part in order[1:]:
                merged = merged.merge(ranges(torch.tensor(part)))
            for name, tensor in merged.tensors().items():
                assert torch.equal(tensor, once.tensors()[name])
    by_class = once.by_class()
    assert by_class.rows.tolist() == [0, 1, 2] and int(by_class.sizes[2]) == 5
    zeros = torch.tensor([64 - (int(key) + 2**63).bit_length() for key in keys])
    for i, c in enumerate(by_class.rows.tolist()):
        mine = predicted == c
        least = max(n for n in range(64) if int((mine & (zeros >= n)).sum()) >= 20 or n == 0)
        kept = values[mine & (zeros >= least)]
        assert len(kept) == by_class.sizes[i]
        assert torch.equal(by_class.low[:, i], kept.sort(0).values[:2])
        assert torch.equal(by_class.high[:, i], kept.sort(0, descending=True).values[:2])
    assert int(by_class.count) == int(by_class.sizes.sum()) < 200


def test_samples_without_a_second_of_their_class_are_refused():
    given = setting("plain_cnn")
    monitor = gradood.Monitor(given.network, "gram")
    with pytest.raises(DataError, match=r"gram was fitted on 20 samples of which no two that dif"):
        monitor.fit(given.fit_x[:1].expand(20, -1, -1, -1))


def test_the_reading_is_saved_and_found_again():
    read = Activation(Site("layer1"), gram_sums((2, 4)))
    plain = read_to_plain(read)
    assert plain["settings"] == [2, 4]
    again = read_from_plain(plain)
    assert again == read and again != Activation(Site("layer1"), gram_sums((2,)))
    tensor = torch.rand(2, 3, 4, 4)
    assert torch.equal(again.summary.reduce(tensor, 1), read.summary.reduce(tensor, 1))


@pytest.mark.parametrize("powers", [[], [0], [33], [10**9], [2, 1], [1, 1], [1.0], ["1"], True])
def test_powers_that_nobody_saved_are_refused(powers):
    plain = read_to_plain(Activation(Site("layer1"), gram_sums((2, 4))))
    with pytest.raises(ArtifactError, match=r"is nothing that gradood reads"):
        read_from_plain({**plain, "settings": powers})


def test_a_network_of_layers_without_names_or_norms():
    """No stage, no normalization, no ReLU: all layers but the head."""
    model = nn.Sequential(nn.Linear(6, 8), nn.GELU(), nn.Linear(8, 7), nn.Tanh(), nn.Linear(7, 3))
    monitor = gradood.Monitor(model.eval(), "gram").fit(torch.randn(60, 6))
    reads = monitor.bind(torch.randn(32, 6)).plans["gram"].reads[1:]
    assert [read.site.layer for read in reads] == ["0", "1", "2", "3"]
