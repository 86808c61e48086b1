"""GAIA-Z, forward and backward, against autograd sample by sample."""

import pytest
import torch
from naive import gaia
from networks import CASES
from package import NAMES, same, setting

import gradood
from gradood.functional.gaia import zero_abnormality

FORWARD = [name for name in NAMES if CASES[name].masks is not None]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("path", ["auto", "backward"])
def test_gaia_z_is_the_share_of_nonzero_gradients(name, path):
    given = setting(name)
    expected = gaia.gaia_z(given.network, given.x, given.case.norms)
    same(given.scores(gradood.GAIAZ(path=path)), expected)
    named = gradood.GAIAZ(layers=list(given.case.norms), path=path)
    same(given.scores(named), expected)


@pytest.mark.parametrize("name", FORWARD)
def test_gaia_z_forward_is_the_share_of_nonzero_gradients(name):
    given = setting(name)
    expected = gaia.gaia_z(given.network, given.x, given.case.norms)
    same(given.scores(gradood.GAIAZ(path="forward")), expected)


@pytest.mark.parametrize("name", NAMES)
def test_gaia_z_of_some_layers(name):
    given = setting(name)
    for layers in ([given.case.norms[0]], list(given.case.norms[-2:])):
        expected = gaia.gaia_z(given.network, given.x, layers)
        same(given.scores(gradood.GAIAZ(layers=layers)), expected)


def test_gaia_z_proves_its_forward_path_where_a_residual_sum_is_rectified():
    given = setting("post_activation_resnet")
    monitor = gradood.Monitor(given.network, gradood.GAIAZ())
    (note,) = monitor.bind(given.fit_x).plans["gaia-z"].notes
    assert "forward" in note
    assert "100%" in note


@pytest.mark.parametrize("name", NAMES)
def test_gaia_z_of_a_frozen_model_in_training_mode(name):
    given = setting(name)
    expected = gaia.gaia_z(given.network, given.x, given.case.norms)
    given.network.requires_grad_(False).train()
    same(given.scores(gradood.GAIAZ(path="backward")), expected)


def test_gaia_z_weighs_every_channel_of_every_layer_alike(rng):
    shares = [rng.uniform(size=(5, width)) for width in (3, 8, 1)]
    expected = [sum(v**2 for s in shares for v in s[n]) / 12 for n in range(5)]
    same(zero_abnormality([torch.tensor(share) for share in shares]), expected)
