"""Maximum logit against its formula."""

import pytest
import torch
from naive import logits
from numpy.testing import assert_array_equal
from package import NAMES, same, setting

import gradood
from gradood.functional.logits import max_logit


@pytest.mark.parametrize("name", NAMES)
def test_max_logit_is_its_formula(name):
    given = setting(name)
    same(given.scores(gradood.MaxLogit()), logits.max_logit(given.logits(given.x)))


def test_max_logit_of_random_logits(rng):
    z = 6e4 * rng.normal(size=(20, 7))
    assert_array_equal(max_logit(torch.tensor(z)), logits.max_logit(z))
