"""Stages come from names and call order."""

import pytest

from gradood.taps.graph import find_stages
from gradood.taps.site import Site


def names(stages):
    return [stage.container for stage in stages]


@pytest.mark.parametrize("prefix", ["", "backbone.", "model.encoder."])
def test_children_of_the_backbone_are_stages(prefix):
    layers = [f"{prefix}bn1"]
    layers += [f"{prefix}layer{i}.{j}.bn" for i in (1, 2, 3, 4) for j in range(3)]
    stages = find_stages(layers)
    assert names(stages) == [f"{prefix}layer{i}" for i in (1, 2, 3, 4)]
    assert stages[1].layers == tuple(f"{prefix}layer2.{j}.bn" for j in range(3))


def test_a_flat_network_has_no_stages():
    assert find_stages(["bn1", "bn2", "bn3"]) == ()
    assert find_stages([]) == ()
    assert find_stages(["block.bn1", "block.bn2"]) == ()


def test_a_site_says_where_it_is():
    assert str(Site("a.b")) == "a.b"
    assert str(Site("a", "input", 2)) == "a (input) (call 2)"
