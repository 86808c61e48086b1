"""The public contract suite over every registered detector."""

import warnings

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings
from variants import DEFAULTS, FAILS, OPTIONS, REFUSED, VARIANTS, cases, subject

import gradood
from gradood.errors import MeaninglessScoreWarning
from gradood.testing import checks, networks, run_check

LEARNERS = [method.name for method in gradood.methods() if method.learns]
METHODS = [method.name for method in gradood.methods()]


def expects_refusal(variant: str, network: str, check: str) -> bool:
    return (variant, network) in REFUSED and not checks()[check].once


@pytest.mark.parametrize(("variant", "network", "check"), cases(), ids=lambda part: part)
def test_contract(variant, network, check):
    if (variant, network, check) in FAILS:
        with pytest.raises(AssertionError, match=FAILS[variant, network, check]):
            run_check(check, subject(variant, network))
        return
    outcome = run_check(check, subject(variant, network))
    assert (outcome.status == "refused") == expects_refusal(variant, network, check), outcome.detail


@pytest.mark.parametrize(("variant", "network"), sorted(REFUSED))
def test_a_refusal_says_which_detector_or_layer_and_what_to_do(variant, network):
    message = str(subject(variant, network).refusal)
    assert VARIANTS[variant].make().name in message
    assert "layer" in message or "block1.norm1" in message
    assert "Name some" in message or "use path=" in message


def test_every_method_with_options_is_checked_with_some():
    with_options = {v.make().name for v in DEFAULTS if v.make().options()}
    assert {v.make().name for v in OPTIONS} == with_options


@pytest.mark.parametrize("name", ["gradnorm", "gaia-z"])
def test_a_score_that_means_little_on_a_transformer_says_so_once(name):
    network = networks()["transformer"]
    monitor = gradood.Monitor(network.model(), name)
    with pytest.warns(MeaninglessScoreWarning, match=name) as caught:
        monitor.score(network.inputs(8))
        monitor.score(network.inputs(8))
    assert len(caught) == 1
    assert caught[0].filename == __file__


@pytest.mark.parametrize("network", ["plain-cnn", "resnet", "densenet", "groupnorm", "mlp"])
def test_no_detector_warns_on_networks_of_relus(network):
    chosen = networks()[network]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        gradood.Monitor(chosen.model(), METHODS).bind(chosen.inputs(8))


@pytest.mark.parametrize("network", ["resnet", "transformer", "mlp"])
@pytest.mark.filterwarnings("ignore::gradood.errors.MeaninglessScoreWarning")
def test_all_detectors_together_score_as_each_alone(network):
    chosen = networks()[network]
    monitor = gradood.Monitor(chosen.model(), METHODS)
    one = subject("energy", network)
    scores = monitor.fit(one.data()).score(one.x)
    assert list(scores) == METHODS
    for name, together in scores.items():
        own = subject(name, network)
        own.agree(together, own.scores, f"{name} beside all others")


@pytest.mark.parametrize("name", METHODS)
@settings(max_examples=12)
@given(data=st.data())
def test_any_batches_of_any_rows_in_any_order(name, data):
    one = subject(name, "mlp")
    rows = data.draw(st.lists(st.integers(0, len(one.x) - 1), min_size=1, max_size=40))
    sizes = data.draw(st.lists(st.integers(0, 9), min_size=40, max_size=40).filter(any))
    loader, start = [], 0
    for size in sizes:
        loader.append(one.x[rows[start : start + size]])
        start += size
    loader.append(one.x[rows[start:]])
    one.agree(one.monitor.score(loader), one.scores[rows], "drawn batches")


@pytest.mark.parametrize("name", LEARNERS)
@settings(max_examples=8)
@given(data=st.data())
def test_any_shards_merged_in_any_order_are_one_pass(name, data):
    one = subject(name, "mlp")
    batches = one.data(batch=12)
    monitor = one.fitted(data=batches)
    once = dict(monitor.states[name])
    shards: list[list] = [[] for _ in range(data.draw(st.integers(1, 8)))]
    for batch in batches:
        shards[data.draw(st.integers(0, len(shards) - 1))].append(batch)
    parts = [monitor.accumulate(shard) for shard in shards if shard]
    parts = data.draw(st.permutations(parts))
    while len(parts) > 1:
        i = data.draw(st.integers(0, len(parts) - 2))
        parts[i : i + 2] = [monitor.merge(parts[i], parts[i + 1])]
    monitor.finish(parts[0])
    for key, tensor in monitor.states[name].items():
        torch.testing.assert_close(tensor, once[key], rtol=1e-9, atol=1e-12)
