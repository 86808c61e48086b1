"""DAVIS against its formula (2601.22703, and the authors' get_odin_feature)."""

import math

import numpy as np
import pytest
import torch
from naive.arrays import Array, to_array
from naive.logits import energy
from naive.shaping import head
from package import NAMES, same, setting

import gradood


def last_map(given) -> Array | None:
    """The map whose mean the head reads; None where the network has none."""
    if given.case.last is None:
        return None
    kept: list[torch.Tensor] = []
    layer = given.network.get_submodule(given.case.last)
    handle = layer.register_forward_hook(lambda _, given, output: kept.append(output.clone()))
    with torch.no_grad():
        given.network(given.x)
    handle.remove()
    found = to_array(kept[-1])
    features = to_array(given.features(given.x))
    if found.ndim != 4 or found.shape[1] != features.shape[1]:
        return None
    return found if np.allclose(found.mean((2, 3)), features) else None


def pooled(values: list[float], statistic: str, gamma: float) -> float:
    if statistic == "max":
        return max(values)
    mean = math.fsum(values) / len(values)
    if len(values) == 1:
        return mean
    squares = math.fsum((v - mean) ** 2 for v in values)
    return mean + gamma * math.sqrt(squares / (len(values) - 1))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("statistic", "gamma"), [("mean+std", 1.0), ("mean+std", 0.3), ("max", 1.0)]
)
def test_davis_is_its_formula(name, statistic, gamma):
    given = setting(name)
    found = last_map(given)
    h = to_array(given.features(given.x))
    if found is not None:
        h = np.array([[pooled(c.ravel().tolist(), statistic, gamma) for c in row] for row in found])
    expected = energy(head(h, given.weight, given.bias))
    same(given.scores(gradood.DAVIS(statistic=statistic, gamma=gamma)), expected)


def test_most_networks_have_a_map():
    assert sum(last_map(setting(name)) is not None for name in NAMES) >= len(NAMES) // 2
