"""Free energy against its formula."""

import pytest
import torch
from naive import logits
from package import NAMES, same, setting

import gradood
from gradood.functional.logits import energy


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("temperature", [0.1, 1.0, 25.0])
def test_energy_is_its_formula(name, temperature):
    given = setting(name)
    scores = given.scores(gradood.Energy(temperature=temperature))
    same(scores, logits.energy(given.logits(given.x), temperature))


@pytest.mark.parametrize("temperature", [0.01, 1.0, 1000.0])
@pytest.mark.parametrize("scale", [1.0, 6e4])
def test_energy_of_random_logits(rng, scale, temperature):
    z = scale * rng.normal(size=(20, 7))
    same(energy(torch.tensor(z), temperature), logits.energy(z, temperature))
