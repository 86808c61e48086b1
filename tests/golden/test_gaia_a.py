"""GAIA-A's closed form and its one backward pass against autograd sample by sample."""

import numpy as np
import pytest
import torch
from naive import gaia
from networks import CASES
from numpy.testing import assert_array_equal
from package import NAMES, same, setting

import gradood
from gradood.functional.gaia import abnormality_ratio, log_softmax_gradient

# The layer whose output, averaged over its positions, is the head's input.
POOLED = {name: CASES[name].last for name in NAMES}


@pytest.mark.parametrize("name", NAMES)
def test_gaia_a_with_layers_named(name):
    given, case = setting(name), CASES[name]
    detector = gradood.GAIAA(layers=list(case.inner), last=case.last)
    expected = gaia.gaia_a(given.network, given.x, case.inner, case.last)
    same(given.scores(detector), expected)


@pytest.mark.parametrize("name", NAMES)
def test_gaia_a_finds_the_last_map_itself(name):
    given, case = setting(name), CASES[name]
    expected = gaia.gaia_a(given.network, given.x, case.inner, case.last)
    same(given.scores(gradood.GAIAA(layers=list(case.inner))), expected)


@pytest.mark.parametrize("name", ["post_activation_resnet", "pre_activation_densenet"])
def test_gaia_a_takes_the_papers_layers_by_default(name):
    given, case = setting(name), CASES[name]
    inner = case.inner
    expected = gaia.gaia_a(given.network, given.x, inner, case.last)
    same(given.scores(gradood.GAIAA()), expected)


@pytest.mark.parametrize("name", NAMES)
def test_gaia_a_pooled_counts_one_position(name):
    given, case = setting(name), CASES[name]
    layers = list(case.inner)
    pooled = given.scores(gradood.GAIAA(layers=layers, last="pooled"))
    # O² is a mean of |gradient|, which the pool's 1/S divides.
    same(pooled, given.scores(gradood.GAIAA(layers=layers, last=case.last)) / case.positions)


@pytest.mark.parametrize(
    ("name", "inner", "last"),
    [
        ("plain_cnn", ["norm1"], "norm2"),
        ("plain_cnn", ["norm2"], "conv1"),
        ("post_activation_resnet", ["norm", "stage1.norm2"], "stage1"),
        ("pre_activation_densenet", ["norm"], "block2"),
        ("mlp_bn", ["norm1"], "linear2"),
    ],
)
def test_gaia_a_takes_a_last_map_that_is_not_pooled_into_the_features(name, inner, last):
    given = setting(name)
    expected = gaia.gaia_a(given.network, given.x, inner, last)
    same(given.scores(gradood.GAIAA(layers=inner, last=last)), expected)


@pytest.mark.parametrize("name", NAMES)
def test_gaia_a_of_a_frozen_model_in_training_mode(name):
    given, case = setting(name), CASES[name]
    expected = gaia.gaia_a(given.network, given.x, case.inner, case.last)
    given.network.requires_grad_(False).train()
    same(given.scores(gradood.GAIAA(layers=list(case.inner), last=case.last)), expected)


@pytest.mark.parametrize("name", NAMES)
def test_gaia_a_closed_form_of_the_output_gradient(name):
    given, case = setting(name), CASES[name]
    expected = gaia.output_gradient(given.network, given.x, case.last)
    closed = log_softmax_gradient(given.logits(given.x), given.weight) / case.positions
    np.testing.assert_allclose(closed, expected, rtol=1e-9, atol=1e-14)


def test_gaia_a_is_infinite_where_the_softmax_is_exactly_uniform():
    given = setting("plain_cnn")
    with torch.no_grad():
        given.network.head.weight.zero_()
        given.network.head.bias.zero_()
    assert_array_equal(given.scores(gradood.GAIAA()), np.full(7, np.inf))
    zero = torch.zeros(2, 3)
    assert_array_equal(abnormality_ratio([zero], zero), [np.inf, np.inf])
