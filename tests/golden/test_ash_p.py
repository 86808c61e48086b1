"""ASH-P against its formula."""

import pytest
import torch
from naive import shaping
from package import NAMES, same, setting

import gradood
from gradood.functional.shaping import pruned


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("percentile", [0, 40, 65, 90, 99])
def test_ash_p_is_its_formula(name, percentile):
    given = setting(name)
    expected = shaping.shaped_energy(
        given.features(given.x),
        given.weight,
        given.bias,
        lambda row: shaping.ash_p(row, percentile),
    )
    same(given.scores(gradood.ASHP(percentile=percentile)), expected)


def test_known_numbers_and_ties():
    rows = torch.tensor([[1.0, 5.0, 2.0, 4.0], [3.0, 3.0, 3.0, 3.0], [0.0, 0.0, 7.0, 0.0]])
    kept = [[0.0, 5.0, 0.0, 4.0], [3.0, 3.0, 0.0, 0.0], [0.0, 0.0, 7.0, 0.0]]
    assert pruned(rows, 50.0).tolist() == kept
    # In another batch, a tie is cut at the same place.
    assert pruned(rows[1:2].repeat(9, 1), 50.0).tolist() == [kept[1]] * 9
    assert pruned(rows, 99.0).count_nonzero(1).tolist() == [1, 1, 1]


def test_signed_features_lose_the_negative_ones():
    assert pruned(torch.tensor([[-9.0, 1.0, 2.0, -1.0]]), 50.0).tolist() == [[0.0, 1.0, 2.0, 0.0]]
