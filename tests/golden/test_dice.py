"""DICE against its formula."""

import pytest
import torch
from naive import logits, shaping
from package import NAMES, same, setting

import gradood
from gradood.functional.gradnorm import last_layer_gradient_norm
from gradood.functional.shaping import contribution_mask


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("percentile", [0, 50, 90])
def test_dice_is_its_formula(name, percentile):
    given = setting(name)
    weight = shaping.dice_weight(given.features(given.fit_x), given.weight, percentile)
    z = shaping.head(given.features(given.x), weight, given.bias)
    same(given.scores(gradood.DICE(percentile=percentile), fit=True), logits.energy(z))


def test_a_score_of_features_sees_the_sparse_head():
    given = setting("mlp_bn")
    h = given.features(given.x)
    weight = shaping.dice_weight(given.features(given.fit_x), given.weight, 50)
    z = torch.tensor(shaping.head(h, weight, given.bias))
    found = given.scores(gradood.DICE(percentile=50, score="gradnorm"), fit=True)
    same(found, -last_layer_gradient_norm(h, z))


def test_equal_contributions_are_kept():
    equal = torch.ones(3, 4)
    assert bool(contribution_mask(torch.zeros(4), equal, 90.0).all())
    mean = torch.tensor([1.0, 1.0, 1.0, 0.0])
    assert contribution_mask(mean, equal, 90.0).tolist() == [[True, True, True, False]] * 3
