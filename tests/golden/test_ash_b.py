"""ASH-B against its formula."""

import pytest
import torch
from naive import shaping
from package import NAMES, same, setting

import gradood
from gradood.functional.shaping import binarized


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("percentile", [0, 40, 65, 90, 99])
def test_ash_b_is_its_formula(name, percentile):
    given = setting(name)
    expected = shaping.shaped_energy(
        given.features(given.x),
        given.weight,
        given.bias,
        lambda row: shaping.ash_b(row, percentile),
    )
    same(given.scores(gradood.ASHB(percentile=percentile)), expected)


def test_known_numbers_and_ties():
    rows = torch.tensor([[1.0, 5.0, 2.0, 4.0], [3.0, 3.0, 3.0, 3.0], [0.0, 0.0, 7.0, 0.0]])
    expected = [[0.0, 6.0, 0.0, 6.0], [6.0, 6.0, 0.0, 0.0], [3.5, 0.0, 3.5, 0.0]]
    assert binarized(rows, 50.0).tolist() == expected
    assert binarized(torch.zeros(1, 4), 50.0).tolist() == [[0.0] * 4]


def test_signed_features_share_their_sum():
    assert binarized(torch.tensor([[-9.0, 1.0, 2.0, 0.0]]), 50.0).tolist() == [
        [0.0, -3.0, -3.0, 0.0]
    ]
