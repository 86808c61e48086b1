"""Every detector on networks of several inputs: finite scores that padding, order and batches do
not change, or a refusal that is true. Those of Transformers too, where it is installed.

All detectors share the look, so that a network takes one monitor.
"""

import re
import warnings
from functools import cache

import pytest
import torch

import gradood
from gradood.taps import logits_of
from gradood.testing._sequences import INPUT_NETWORKS
from gradood.testing._transformers import transformers_networks

NETWORKS = INPUT_NETWORKS | transformers_networks()
METHODS = [method.name for method in gradood.methods()]
DISCRETE = r"moves inputs along their gradient: .*whole numbers \(input_ids"
NO_CUT = "an early layer that everything after it depends on alone"
NO_TEXTS = "compares images with texts"
OF_IDS = dict.fromkeys(("adascale-a", "adascale-l", "i-odin", "odin"), DISCRETE)
ALWAYS = dict.fromkeys(("gl-mcm", "mcm", "neg-label"), NO_TEXTS)
REFUSALS = {
    "masked-first": {**OF_IDS, "grood": NO_CUT},
    "masked-mean": {**OF_IDS, "grood": NO_CUT},
    "causal": {**OF_IDS, "grood": NO_CUT},
    "lstm": {"blood": "representations that follow one another"},
    "table": {"grood": NO_CUT},
    "ft-transformer": {},
    "bert": {**OF_IDS, "grood": NO_CUT},
    "distilbert": {**OF_IDS, "grood": NO_CUT},
    "roberta": OF_IDS,
    "deberta-v2": {**OF_IDS, "grood": NO_CUT},
    "gpt-2": {**OF_IDS, "grood": NO_CUT},
    "wav2vec2": {"grood": NO_CUT},
    "ast": {},
}
"""Network → detector → words of its reason; beside those that are refused on all."""
UNPADDED = {"table", "ft-transformer", "ast"}
SIGNED = {"ash-b", "ash-s", "dice", "scale"}
"""Ratios of sums of features, which these networks have of both signs: where such a sum is near
zero, rounding decides. Each warns of that."""

CONVOLVED = {"gaia-a", "gaia-z", "gram", "nac"}
"""They read layers of which the mask says nothing: convolutions with a stride. Each warns."""


def rows(batch, places):
    return {name: leaf[places] for name, leaf in batch.items()}


def unpadded(batch, row):
    if "attention_mask" in batch:
        length = int(batch["attention_mask"][row].sum())
    else:
        length = int(batch["lengths"][row])
    one = rows(batch, slice(row, row + 1))
    return {name: leaf[:, :length] if leaf.ndim > 1 else leaf for name, leaf in one.items()}


def padded(batch, more):
    return {
        n: torch.cat([x, x.new_zeros(len(x), more, *x.shape[2:])], 1) if x.ndim > 1 else x
        for n, x in batch.items()
    }


@cache
def fitted(name):
    network = NETWORKS[name]
    model = network.model()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        batch = network.batch(160)
        labels = logits_of(model(**batch)).argmax(1)
        monitor = gradood.Monitor(model, METHODS, skip_unusable=True, progress=False)
        monitor.fit([{**rows(batch, s), "labels": labels[s]} for s in torch.arange(160).split(32)])
    return monitor, network.batch(24, seed=1)


@cache
def scores(name):
    monitor, x = fitted(name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return monitor.score(x)


def warned_of_padding(monitor):
    plans = monitor._session.state.bound.binding.plans
    return {
        n for n, plan in plans.items() if any("not those of the mask" in c for c in plan.caveats)
    }


def agree(found, expected, what, skip=frozenset()):
    for name, values in expected.items():
        if name in skip:
            continue
        spread = float(values.quantile(0.75) - values.quantile(0.25))
        error = (found[name] - values).abs() / values.abs().clamp_min(max(spread, 1e-12))
        assert float(error.max()) <= 1e-4, f"{name} {what}: {float(error.max()):.1e}"


@pytest.mark.parametrize("name", NETWORKS)
def test_every_detector_is_finite_or_refuses_truly(name):
    monitor, _ = fitted(name)
    refusals = REFUSALS[name] | ALWAYS
    assert set(monitor.left_out) == set(refusals)
    for method, words in refusals.items():
        assert re.search(words, monitor.left_out[method]), monitor.left_out[method]
    for method, values in scores(name).items():
        assert bool(values.isfinite().all()), method


@pytest.mark.parametrize("name", NETWORKS)
def test_order_and_batches_change_no_score(name):
    monitor, x = fitted(name)
    order = torch.randperm(24, generator=torch.Generator().manual_seed(0))
    agree(monitor.score(rows(x, order)), {n: s[order] for n, s in scores(name).items()}, "shuffled")
    parts = [rows(x, part) for part in torch.arange(24).split(7)]
    agree(monitor.score(parts), scores(name), "in batches of 7")


@pytest.mark.parametrize("name", [n for n in NETWORKS if n not in UNPADDED])
def test_padding_changes_no_score(name):
    monitor, x = fitted(name)
    told = warned_of_padding(monitor)
    assert told == (CONVOLVED if name == "wav2vec2" else set())
    agree(monitor.score(padded(x, 9)), scores(name), "padded", SIGNED | told)
    alone = [unpadded(x, row) for row in range(6)]
    own = {n: s[:6] for n, s in scores(name).items()}
    agree(monitor.score(alone), own, "alone", SIGNED | told)
