"""Joint energy and the sum of probabilities against their formulas."""

import math

import pytest
import torch
from package import NAMES, same, setting

import gradood
from gradood.functional.logits import joint_energy


@pytest.mark.parametrize("name", NAMES)
def test_joint_energy_is_its_formula(name):
    given = setting(name)
    expected = [
        -sum(math.log1p(math.exp(z)) for z in row) for row in given.logits(given.x).tolist()
    ]
    same(given.scores(gradood.JointEnergy()), expected)


@pytest.mark.parametrize("name", NAMES)
def test_probability_sum_is_its_formula(name):
    given = setting(name)
    expected = [-sum(1 / (1 + math.exp(-z)) for z in row) for row in given.logits(given.x).tolist()]
    same(given.scores(gradood.ProbabilitySum()), expected)


@pytest.mark.parametrize("z", [-800.0, -40.0, -1e-9, 0.0, 30.0, 49.9, 50.1, 800.0])
def test_joint_energy_at_extreme_logits(z):
    """log(1 + e^z) = max(z, 0) + log(1 + e^−|z|), which neither overflows nor rounds to zero."""
    logits = torch.tensor([[z]], dtype=torch.float64)
    expected = -(max(z, 0.0) + math.log1p(math.exp(-abs(z))))
    found = float(joint_energy(logits))
    assert found == pytest.approx(expected, rel=1e-12)
