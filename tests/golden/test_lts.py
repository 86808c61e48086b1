"""LTS against its formula."""

import pytest
import torch
from naive import logits, shaping
from package import NAMES, same, setting

import gradood
from gradood.errors import ConfigError
from gradood.functional.shaping import logit_scale


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("percentile", [0, 40, 95])
def test_lts_is_its_formula(name, percentile):
    given = setting(name)
    h = given.features(given.x)
    z = shaping.head(h, given.weight, given.bias)
    factors = [shaping.lts_factor(row, percentile) for row in h.tolist()]
    expected = logits.energy(z * torch.tensor(factors).double().numpy()[:, None])
    same(given.scores(gradood.LTS(percentile=percentile)), expected, 1e-7)


def test_known_numbers():
    rows = torch.tensor([[1.0, 5.0, 2.0, 4.0], [0.0, 0.0, 7.0, 0.0], [0.0, 0.0, 0.0, 0.0]])
    assert logit_scale(rows, 50.0).tolist() == pytest.approx([(12 / 9) ** 2, 1.0, 1.0], rel=1e-15)


def test_negative_units_count_as_zero():
    rows = torch.tensor([[1.0, -5.0, 2.0, 4.0], [-1.0, -1.0, -2.0, -3.0]])
    assert logit_scale(rows, 75.0).tolist() == pytest.approx([(7 / 4) ** 2, 1.0], rel=1e-15)


def test_a_score_of_features_is_refused():
    given = setting("mlp_bn")
    with pytest.raises(
        ConfigError, match=r"lts: score='gradnorm' reads other .* a score of logits"
    ):
        given.scores(gradood.LTS(percentile=95, score="gradnorm"))
