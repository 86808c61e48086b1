"""SCALE against its formula."""

from math import exp

import pytest
import torch
from naive import shaping
from package import NAMES, same, setting

import gradood
from gradood.functional.shaping import scaled, sharpened


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("percentile", [0, 40, 65, 90, 99])
def test_scale_is_its_formula(name, percentile):
    given = setting(name)
    expected = shaping.shaped_energy(
        given.features(given.x),
        given.weight,
        given.bias,
        lambda row: shaping.scale(row, percentile),
    )
    same(given.scores(gradood.SCALE(percentile=percentile)), expected)


def test_known_numbers():
    rows = torch.tensor([[1.0, 5.0, 2.0, 4.0], [0.0, 0.0, 7.0, 0.0], [0.0, 0.0, 0.0, 0.0]])
    first, second, third = scaled(rows, 50.0)
    expected = [value * exp(12 / 9) for value in (1.0, 5.0, 2.0, 4.0)]
    assert first.tolist() == pytest.approx(expected, rel=1e-15)
    assert second.tolist() == pytest.approx([0, 0, 7 * exp(1), 0], rel=1e-15)
    assert third.tolist() == [0.0] * 4


@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e30])
def test_signed_features_are_finite_and_least_scaled_where_the_sum_is_lowest(scale):
    generator = torch.Generator().manual_seed(0)
    rows = scale * torch.randn(400, 10, generator=generator)
    rows[:100] -= 2 * scale
    for percentile in (0.0, 50.0, 95.0):
        assert bool(scaled(rows, percentile).isfinite().all())
    # As negative units grow, the factor falls to 0 and stays there.
    falling = scale * torch.tensor([[1.0, -1.0, -t, -t] for t in (0.0, 0.5, 5.0, 5e3)])
    factors = (scaled(falling, 75.0)[:, 0] / scale).tolist()
    assert factors == sorted(factors, reverse=True) and factors[-1] == 0.0
    assert not scaled(-rows[:1].abs(), 50.0).any()


def test_a_few_units_of_many_even_ones_do_not_overflow():
    rows = torch.ones(1, 2048)
    assert bool(scaled(rows, 99.95).isfinite().all())
    assert bool(sharpened(rows, 99.95).isfinite().all())
    assert float(scaled(rows, 99.95)[0, 0]) == pytest.approx(exp(500))
