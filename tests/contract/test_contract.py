"""The public contract suite over every registered detector."""

import warnings

import hypothesis.strategies as st
import pytest
import torch
from covering import covering_array, full_product, run_row
from hypothesis import given, settings
from rosters import ON_ANY
from variants import DEFAULTS, LINKS, OPTIONS, REFUSED, REFUSED_BY_LINK, VARIANTS, case

import gradood
from gradood.errors import MeaninglessScoreWarning
from gradood.testing import networks

LEARNERS = [method.name for method in gradood.methods() if method.learns]


def pytest_generate_tests(metafunc):
    """The covering array; with ``--full`` the product of all variants, networks and checks."""
    if "row" in metafunc.fixturenames:
        rows = full_product() if metafunc.config.getoption("--full") else covering_array()
        apart = {variant.name: [pytest.mark.options] for variant in OPTIONS}
        metafunc.parametrize(
            "row",
            [pytest.param(row, id="-".join(row), marks=apart.get(row[0], ())) for row in rows],
        )


def test_contract(row):
    run_row(row)


SINGLE = {("low-dim-grad", "one-logit")}
"""Two classes leave one direction between them."""


@pytest.mark.parametrize(("variant", "network"), sorted(REFUSED_BY_LINK | SINGLE))
def test_a_refusal_by_outputs_says_so_and_what_runs(variant, network):
    message = str(case(variant, network).refusal)
    name = VARIANTS[variant].make().name
    assert message.startswith(name) and f"Leave {name} out" in message
    if (variant, network) not in SINGLE:
        assert f"link='{LINKS[network]}'" in message and "knn" in message


@pytest.mark.parametrize(("variant", "network"), sorted(REFUSED - REFUSED_BY_LINK - SINGLE))
def test_a_refusal_says_which_detector_or_layer_and_what_to_do(variant, network):
    message = str(case(variant, network).refusal)
    assert VARIANTS[variant].make().name in message
    assert "layer" in message or "block1.norm1" in message
    assert "Name some" in message or "use path=" in message or "gradood.zero_shot(" in message


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
        gradood.Monitor(chosen.model(), ON_ANY).bind(chosen.inputs(8))


@pytest.mark.parametrize("network", ["resnet", "transformer", "mlp"])
@pytest.mark.filterwarnings("ignore::gradood.errors.MeaninglessScoreWarning")
def test_all_detectors_together_score_as_each_alone(network):
    chosen = networks()[network]
    monitor = gradood.Monitor(chosen.model(), ON_ANY)
    own = case("energy", network)
    scores = monitor.fit(own.data()).score(own.x)
    assert list(scores) == ON_ANY
    for name, together in scores.items():
        alone = case(name, network)
        alone.agree(together, alone.scores, f"{name} beside all others")


@pytest.mark.parametrize("name", ON_ANY)
@settings(max_examples=12)
@given(data=st.data())
def test_any_batches_of_any_rows_in_any_order(name, data):
    own = case(name, "mlp")
    rows = data.draw(st.lists(st.integers(0, len(own.x) - 1), min_size=1, max_size=40))
    sizes = data.draw(st.lists(st.integers(0, 9), min_size=40, max_size=40).filter(any))
    loader, start = [], 0
    for size in sizes:
        loader.append(own.x[rows[start : start + size]])
        start += size
    loader.append(own.x[rows[start:]])
    own.agree(own.monitor.score(loader), own.scores[rows], "drawn batches")


@pytest.mark.parametrize("name", LEARNERS)
@settings(max_examples=8)
@given(data=st.data())
def test_any_shards_merged_in_any_order_are_one_pass(name, data):
    own = case(name, "mlp")
    batches = own.data(batch=12)
    monitor = own.fitted(data=batches)
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
