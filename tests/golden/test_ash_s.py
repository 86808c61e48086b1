"""ASH-S against its formula."""

from math import exp

import pytest
import torch
from naive import shaping
from package import NAMES, same, setting

import gradood
from gradood.functional.shaping import sharpened


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("percentile", [0, 40, 65, 90, 99])
def test_ash_s_is_its_formula(name, percentile):
    given = setting(name)
    expected = shaping.shaped_energy(
        given.features(given.x),
        given.weight,
        given.bias,
        lambda row: shaping.ash_s(row, percentile),
    )
    same(given.scores(gradood.ASHS(percentile=percentile)), expected)


def test_known_numbers():
    rows = torch.tensor([[1.0, 5.0, 2.0, 4.0], [0.0, 0.0, 7.0, 0.0], [0.0, 0.0, 0.0, 0.0]])
    first, second, third = sharpened(rows, 50.0)
    assert first.tolist() == pytest.approx([0, 5 * exp(12 / 9), 0, 4 * exp(12 / 9)], rel=1e-15)
    assert second.tolist() == pytest.approx([0, 0, 7 * exp(1), 0], rel=1e-15)
    assert third.tolist() == [0.0] * 4


@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e30])
def test_signed_features_are_finite(scale):
    generator = torch.Generator().manual_seed(0)
    rows = scale * torch.randn(400, 10, generator=generator)
    rows[:100] -= 2 * scale  # the largest sum to less than zero
    rows[100] = torch.tensor([scale, -scale] * 5)
    rows[101] = -scale
    for percentile in (0.0, 50.0, 95.0):
        assert bool(sharpened(rows, percentile).isfinite().all())
    assert sharpened(rows[101:102], 90.0).tolist() == [[0.0] * 10]
