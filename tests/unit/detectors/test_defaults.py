"""Which layers a detector reads when the user names none."""

from dataclasses import replace

import pytest
import torch
from torch import nn

import gradood
from gradood.detectors._shared.layers import hook_layers, inner_layers
from gradood.errors import TapError
from gradood.models import densenet101, resnet20
from gradood.taps import observe
from gradood.testing import networks


def observed(name: str):
    given = networks()[name]
    return observe(given.model(), given.inputs(2))


def names(layers) -> list[str]:
    return [layer.name for layer in layers]


def test_gaia_z_watches_every_normalization_layer():
    assert names(hook_layers(observed("resnet"), None, "gaia-z")) == [
        *("norm", "layer1.norm1", "layer1.norm2"),
        *("layer2.norm1", "layer2.norm2", "layer2.shortcut.1"),
    ]


def test_without_normalization_the_layers_that_feed_a_relu_are_watched():
    assert names(hook_layers(observed("mlp"), None, "gaia-z")) == ["linear1", "linear2"]
    with pytest.raises(TapError, match=r"gaia-z .*Name some with layers="):
        hook_layers(observed("gelu-mlp"), None, "gaia-z")


def test_names_are_taken_as_they_are_and_misses_are_explained():
    network = observed("plain-cnn")
    assert names(hook_layers(network, ["norm2", "conv1"], "gaia-z")) == ["norm2", "conv1"]
    with pytest.raises(TapError, match="did you mean 'norm1'"):
        hook_layers(network, ["norm11"], "gaia-z")


@pytest.mark.parametrize(
    ("network", "first", "last", "count", "pooled"),
    [
        ("resnet", "layer1.norm1", "layer2.shortcut.1", 5, False),
        ("densenet", "block2.0.norm", "norm", 3, False),
        ("groupnorm", "block2.norm1", "block2.norm2", 2, True),
        ("transformer", "block1.norm1", "block2.norm2", 4, True),
        ("plain-cnn", "norm2", "norm2", 1, False),
    ],
)
def test_gaia_a_takes_late_layers(network, first, last, count, pooled):
    layers, from_pooled = inner_layers(observed(network))
    assert (layers[0].name, layers[-1].name, len(layers)) == (first, last, count)
    assert from_pooled is pooled


def test_gaia_a_takes_the_papers_layers_of_the_reference_networks():
    x = torch.randn(2, 3, 32, 32)
    layers, pooled = inner_layers(observe(resnet20(), x))
    assert len(layers) == 12 and not pooled
    assert {name.split(".")[0] for name in names(layers)} == {"layer2", "layer3"}
    network = observe(densenet101(), x)
    layers, pooled = inner_layers(network)
    assert len(layers) == 33 and not pooled
    assert names(layers)[-1] == "bn1"
    assert all(name.startswith("block3.") for name in names(layers)[:-1])
    plan = gradood.GROOD().plan(network, x)
    assert plan.notes == ("outliers mixed at block1",)


@pytest.mark.parametrize("detector", [gradood.MSP(), gradood.GradNorm(), gradood.GAIAA()], ids=repr)
def test_one_logit_is_no_softmax(detector):
    layers = nn.Linear(6, 5), nn.BatchNorm1d(5), nn.ReLU()
    x = torch.randn(32, 6)
    for classes in (1, 2):
        model = nn.Sequential(*layers, nn.Linear(5, classes)).eval()
        caveats = detector.plan(observe(model, x), x).caveats
        assert bool(caveats) is (classes == 1)
        assert all("the model has one logit" in caveat for caveat in caveats)


def test_a_stage_of_layers_that_cannot_be_read_is_passed_over():
    network = observed("resnet")
    unread = replace(network.stages[-1], layers=("layer9.norm1",))
    assert inner_layers(replace(network, stages=(*network.stages, unread))) == inner_layers(network)
    layers, pooled = inner_layers(replace(network, stages=(unread,)))
    assert names(layers) == names(hook_layers(network, None, "gaia-z"))[3:] and not pooled
