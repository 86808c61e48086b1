"""MSP against its formula."""

import numpy as np
import pytest
import torch
from naive import logits
from package import NAMES, same, setting

import gradood
from gradood.functional.logits import max_softmax


@pytest.mark.parametrize("name", NAMES)
def test_msp_is_its_formula(name):
    given = setting(name)
    same(given.scores(gradood.MSP()), logits.msp(given.logits(given.x)))


@pytest.mark.parametrize("scale", [1e-3, 1.0, 30.0, 6e4])
def test_msp_of_random_logits(rng, scale):
    z = scale * rng.normal(size=(20, 7))
    same(max_softmax(torch.tensor(z)), logits.msp(z))


def test_msp_of_equal_logits_is_one_over_classes():
    same(max_softmax(torch.full((2, 8), 3.0, dtype=torch.float64)), np.full(2, -1 / 8))
