"""Entropy against its formula."""

import numpy as np
import pytest
import torch
from naive import entropies
from package import NAMES, same, setting

import gradood
from gradood.functional.entropies import log_probabilities, shannon_entropy


@pytest.mark.parametrize("name", NAMES)
def test_entropy_is_its_formula(name):
    given = setting(name)
    same(given.scores(gradood.Entropy()), entropies.entropy(given.logits(given.x)))


@pytest.mark.parametrize("scale", [0.01, 1.0, 30.0])
def test_entropy_of_random_logits(rng, scale):
    z = scale * rng.normal(size=(20, 7))
    same(shannon_entropy(torch.tensor(z)), entropies.entropy(z))


def test_known_numbers():
    z = torch.tensor([[0.0, 0.0, 0.0, 0.0], [6e4, -6e4, 0.0, 1.0]]).double()
    uniform, certain = shannon_entropy(z).tolist()
    assert uniform == pytest.approx(np.log(4), rel=1e-15)
    assert certain == 0.0
    # 1 − p = e⁻⁴⁰ (to first order) is lost in p itself; H = (1 − p)(1 + 40).
    near = shannon_entropy(torch.tensor([[40.0, 0.0]]).double())
    assert float(near) == pytest.approx(41 * np.exp(-40), rel=1e-12)


def test_a_class_ruled_out_and_a_single_class():
    z = torch.tensor([[1.0, -torch.inf, 1.0]]).double()
    assert float(shannon_entropy(z)) == pytest.approx(np.log(2), rel=1e-15)
    assert shannon_entropy(torch.tensor([[3.0]]).double()).tolist() == [0.0]
    assert log_probabilities(torch.tensor([[3.0]]).double())[0].tolist() == [[0.0]]
