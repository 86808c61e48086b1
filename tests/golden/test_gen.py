"""GEN against its formula."""

import numpy as np
import pytest
import torch
from naive import entropies
from package import NAMES, same, setting

import gradood
from gradood.functional.entropies import generalized_entropy


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("gamma", "M"), [(0.1, 100), (0.5, 2), (2.0, 1)])
def test_gen_is_its_formula(name, gamma, M):
    given = setting(name)
    scores = given.scores(gradood.GEN(gamma=gamma, M=M))
    same(scores, entropies.gen(given.logits(given.x), gamma, M))


@pytest.mark.parametrize("scale", [0.01, 1.0, 30.0])
@pytest.mark.parametrize("M", [1, 4, 9])
def test_gen_of_random_logits(rng, scale, M):
    z = scale * rng.normal(size=(20, 9))
    same(generalized_entropy(torch.tensor(z), 0.1, M), entropies.gen(z, 0.1, M))


def test_known_numbers():
    z = torch.zeros(1, 4).double()
    expected = 4 * (0.25 * 0.75) ** 0.1
    assert float(generalized_entropy(z, 0.1, 100)) == pytest.approx(expected, rel=1e-15)
    # Probabilities e⁻⁶⁰ below one, which no float64 tells from it: both terms are e⁻⁶.
    z = torch.tensor([[60.0, 0.0]]).double()
    assert float(generalized_entropy(z, 0.1, 2)) == pytest.approx(2 * np.exp(-6), rel=1e-12)
    z = torch.tensor([[6e4, -6e4, -torch.inf]]).double()
    assert generalized_entropy(z, 0.1, 3).tolist() == [0.0]
