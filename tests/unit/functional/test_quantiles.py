"""Quantiles of a stream against numpy."""

import numpy as np
import pytest
import torch

from gradood.functional.quantiles import Histogram

SHARES = [0.0, 0.05, 0.5, 0.9, 0.96, 0.999, 1.0]


def draws(kind):
    generator = torch.Generator().manual_seed(4)
    normal = torch.randn(20_000, generator=generator)
    return {
        "normal": normal,
        "relu": normal.clamp_min(0),
        "negative": -normal.exp(),
        "log-uniform": torch.exp(20 * torch.rand(20_000, generator=generator) - 10),
        "tied": (normal * 2).round(),
        "constant": torch.full((50,), -3.7),
        "large": normal * 1e30,
    }[kind]


@pytest.mark.parametrize("share", SHARES)
@pytest.mark.parametrize(
    "kind", ["relu", "negative", "log-uniform", "tied", "constant", "normal", "large"]
)
def test_equal_to_numpy(kind, share):
    values = draws(kind)
    found = Histogram.of(values).quantile(share)
    # Where neighbors lie apart, anything between them is a quantile.
    ordered = values.double().sort().values
    rank = share * (len(values) - 1)
    low, high = float(ordered[int(np.floor(rank))]), float(ordered[int(np.ceil(rank))])
    slack = 1e-3 * max(abs(low), abs(high)) + 1e-37
    assert low - slack <= found <= high + slack
    if kind == "log-uniform":
        assert found == pytest.approx(float(np.quantile(values.double().numpy(), share)), rel=2e-3)


def test_merging_in_any_order_is_exact():
    values = draws("normal")
    parts = [Histogram.of(part) for part in values.split(3_000)]
    whole = Histogram.of(values)
    forward = parts[0]
    for part in parts[1:]:
        forward = forward.merge(part)
    backward = parts[-1]
    for part in parts[-2::-1]:
        backward = part.merge(backward)
    assert torch.equal(forward.counts, whole.counts)
    assert torch.equal(backward.counts, whole.counts)
    assert int(whole.tensors()["counts"].sum()) == len(values)


def test_any_shape_and_precision():
    values = draws("relu")[:400]
    expected = Histogram.of(values).counts
    assert torch.equal(Histogram.of(values.reshape(20, 20).T.contiguous().T).counts, expected)
    assert torch.equal(Histogram.of(values.double()).counts, expected)
    one = Histogram.of(torch.tensor([2.5]))
    assert one.quantile(0.5) == pytest.approx(2.5, rel=1e-3)


def test_order_of_signs_and_zeros():
    values = torch.tensor([-2.0, -1.0, -0.0, 0.0, 1.0, 2.0])
    histogram = Histogram.of(values)
    found = [histogram.quantile(share) for share in (0.0, 0.2, 0.5, 0.8, 1.0)]
    assert found == sorted(found)
    assert found[0] == pytest.approx(-2.0, rel=1e-3) and found[-1] == pytest.approx(2.0, rel=1e-3)
