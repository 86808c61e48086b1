"""Evidence by name: what a plan calls its requests, and what a detector gets under those names."""

import copy
import pickle

import pytest
import torch
from rosters import ON_ANY, ZERO_SHOT
from torch import nn

import gradood
from gradood.detectors.base import Plan
from gradood.errors import UnknownNameError
from gradood.evidence import (
    FEATURES,
    INPUT_RANGE,
    KEYS,
    LOG_SOFTMAX_SUM,
    LOGITS,
    MAX_LOGIT,
    MEAN,
    NONZERO_SHARE,
    POSITIVE_SHARE,
    Activation,
    Evidence,
    Gradient,
    JacobianNorm,
    Linear,
    ParameterNorm,
    Perturbation,
    Perturbed,
    Reads,
    default_name,
    gather,
    reads_from_plain,
    reads_to_plain,
)
from gradood.taps import Site, observe
from gradood.testing import networks

SITES = Site("a"), Site("b")


@pytest.mark.parametrize(
    ("read", "name"),
    [
        (LOGITS, "logits"),
        (INPUT_RANGE, "input range"),
        (Activation(SITES[0], MEAN), "means"),
        (Activation(SITES[0], POSITIVE_SHARE), "shares"),
        (Gradient(MAX_LOGIT, SITES[0], NONZERO_SHARE), "shares"),
        (Gradient(LOG_SOFTMAX_SUM, SITES[0], MEAN), "log-softmax sum gradients"),
        (ParameterNorm(("w",), 1.0, 2.0), "parameter norm"),
        (JacobianNorm(SITES, None, 3), "jacobian norms"),
        (JacobianNorm(SITES, SITES[1], None, True), "jacobian norms"),
        (Perturbed(Perturbation("max logit", 0.1), FEATURES), "perturbed features"),
        (Perturbed(Perturbation("max logit", 0.1), Activation(SITES[0], MEAN)), "perturbed means"),
    ],
)
def test_a_request_is_called_by_what_is_read(read, name):
    assert default_name(read) == name
    assert Reads((read,)).names == (name,)


def test_a_mapping_names_requests_and_groups_of_them():
    plan = Plan({"z": LOGITS, "layers": [Activation(site, MEAN) for site in SITES]}, (KEYS,))
    assert plan.reads == (LOGITS, *(Activation(site, MEAN) for site in SITES))
    assert plan.reads.names == ("z", "layers", "layers")
    assert plan.reads.named("layers") == plan.reads[1:]
    assert plan.reads.named("none") == ()
    assert plan.fit_reads.names == ("keys",)
    for again in (copy.deepcopy(plan), pickle.loads(pickle.dumps(plan))):
        assert again.reads.names == plan.reads.names
    assert (plan.reads + Reads((FEATURES,))).names == ("z", "layers", "layers", "features")


def evidence(reads) -> Evidence:
    network = networks()["plain-cnn"]
    x = network.inputs(5)
    return gather(observe(network.model(), x), x, reads).only(Reads(reads))


def test_readings_are_found_by_their_names():
    first, second = (Activation(Site(name), MEAN) for name in ("norm1", "norm2"))
    seen = evidence({"z": LOGITS, "layers": (first, second), "twice": (first, first)})
    assert seen["z"] is seen[LOGITS] is seen.logits
    assert seen.group("layers") == (seen[first], seen[second])
    assert len(seen.group("twice")) == 2 and seen["twice"] is seen[first]
    assert "z" in seen and LOGITS in seen and first in seen
    assert "logits" not in seen and FEATURES not in seen and seen.group("logits") == ()
    assert seen.tensors == (seen["z"], seen[first], seen[second], seen[first], seen[first])
    with pytest.raises(UnknownNameError, match=r"2 readings are called 'layers'; evidence\.group"):
        seen["layers"]
    with pytest.raises(UnknownNameError, match="called 'layer'; did you mean 'layers'"):
        seen["layer"]


def test_a_place_in_a_tuple_is_deprecated():
    with pytest.warns(DeprecationWarning, match=r"evidence\.readings is deprecated; take "):
        (logits,) = evidence((LOGITS,)).readings
    assert logits.shape == (5, 5)


def test_evidence_of_logits_and_features_alone_is_scored_as_that_of_the_model():
    network = networks()["plain-cnn"]
    model, x = network.model(), network.inputs(5)
    read = gather(observe(model, x), x, (LOGITS, FEATURES))
    weight, bias = model.head.weight.detach(), model.head.bias.detach()
    readings = {LOGITS: read.logits, FEATURES: read.features}
    apart = Evidence.of(readings, classes=5, head=Linear(weight, bias))
    for detector in (gradood.Energy(), gradood.GradNorm(), gradood.ReAct()):
        state = {"clip": torch.tensor(0.1).double()} if detector.learns else {}
        scores = gradood.Monitor(model, detector)
        if not detector.learns:
            assert torch.equal(detector.measure(apart, state), scores.score(x))
        assert detector.measure(apart, state).shape == (5,)


def test_names_of_a_plan_are_kept_in_plain_values_where_they_are_its_own():
    reads = Reads(
        {"z": LOGITS, "features": FEATURES, "layers": [Activation(s, MEAN) for s in SITES]}
    )
    plain = reads_to_plain(reads)
    assert [entry.get("name") for entry in plain] == ["z", None, "layers", "layers"]
    again = reads_from_plain(plain)
    assert again == reads and again.names == reads.names


@pytest.mark.parametrize("name", ON_ANY + list(ZERO_SHOT))
def test_built_in_plans_use_the_names_that_older_files_imply(name):
    """Files of format 1.0 hold no names: what they hold is found by what it is."""
    from gradood.registry import create

    network = networks()["zero-shot" if name in ZERO_SHOT else "plain-cnn"]
    x = network.inputs(32)
    plan = create(name).plan(observe(network.model(), x), x)
    for reads in (plan.reads, plan.fit_reads):
        assert reads.names == tuple(map(default_name, reads))
        assert reads_from_plain(reads_to_plain(reads)).names == reads.names
        assert not any("name" in entry for entry in reads_to_plain(reads))


def test_a_model_without_head_gives_no_features_under_any_name():
    model = nn.Sequential(nn.Flatten(), nn.Linear(12, 3))
    x = torch.randn(4, 12)
    seen = gather(observe(model, x), x, Reads({"z": LOGITS}))
    assert seen.head is None and seen.reads.names == ("z",)
