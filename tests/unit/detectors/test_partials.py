"""What a fit accumulates: typed partials, merged field by field; and names of the state."""

import pickle
from dataclasses import dataclass
from typing import Any, final

import pytest
import torch

import gradood
from gradood.detectors.base import Learner, Plan, partial_tensors
from gradood.errors import ConfigError
from gradood.evidence import FEATURES, KEYS, LOGITS
from gradood.functional.moments import ClassMoments
from gradood.functional.samples import Rows
from gradood.testing import networks

NETWORK = networks()["mlp"]
X, Y = NETWORK.inputs(64, 2), NETWORK.labels(64)


@dataclass(frozen=True, eq=False, slots=True)
class Statistics:
    mean: ClassMoments
    rows: Rows | None


@final
class Centered(Learner[Statistics]):
    """Distance to the mean feature [nobody2026]."""

    name, needs, cost, fails_when, labels = "centered", ("features",), "none", "Always.", False

    def __init__(self, *, keep: bool = True, key: Any = "mean") -> None:
        self.keep = keep
        self.key = key

    def plan(self, network, probe):
        return Plan((FEATURES,), fit_reads=(FEATURES, KEYS))

    def accumulate(self, evidence) -> Statistics:
        rows = Rows.of(key=evidence[KEYS], h=evidence.features) if self.keep else None
        return Statistics(ClassMoments.together(evidence.features), rows)

    def finish(self, seen: Statistics, network, plan):
        return {self.key: seen.mean.overall_mean}

    def measure(self, evidence, state):
        return (evidence.features.double() - state["mean"]).square().sum(1)


@final
class OldStyle(Learner):
    """As written against the contract of 0.1.0 [nobody2026]."""

    name, needs, cost, fails_when, labels = "old-style", ("features",), "none", "Always.", False

    def plan(self, network, probe):
        return Plan((LOGITS, FEATURES), fit_reads=(FEATURES,))

    def accumulate(self, evidence):
        return {"mean": ClassMoments.together(evidence.features)}

    def finish(self, partial, network, plan):
        return {"mean": partial["mean"].overall_mean}

    def measure(self, evidence, state):
        return (evidence.readings[1].double() - state["mean"]).square().sum(1)


def test_a_partial_merges_field_by_field_and_is_pickled():
    monitor = gradood.Monitor(NETWORK.model(), Centered())
    whole = monitor.accumulate([(X, Y)])
    parts = [monitor.accumulate([(x, y)]) for x, y in zip(X.split(20), Y.split(20), strict=True)]
    total = parts[0]
    for part in pickle.loads(pickle.dumps(parts[1:])):
        total = monitor.merge(total, part)
    assert type(total["centered"]) is Statistics
    first, second = (partial_tensors(each["centered"]) for each in (whole, total))
    assert list(first) == list(second) == ["mean.count", "mean.mean", "rows.key", "rows.h"]
    for name, tensor in first.items():
        torch.testing.assert_close(second[name], tensor, rtol=1e-12, atol=1e-12)


def test_a_field_may_be_none():
    monitor = gradood.Monitor(NETWORK.model(), Centered(keep=False))
    monitor.fit([(X[:32], Y[:32]), (X[32:], Y[32:])])
    assert monitor.score(X).shape == (64,)


def test_what_cannot_be_merged_is_refused():
    with pytest.raises(ConfigError, match="centered accumulates a int, which cannot be merged"):
        Centered().merge(1, 2)


@pytest.mark.parametrize("key", ["layer.0", "a/b", "Mean", "0", "_mean", "", "ä", 3])
def test_a_name_of_the_state_is_plain(key):
    monitor = gradood.Monitor(NETWORK.model(), Centered(key=key))
    with pytest.raises(ConfigError, match=r"centered names a part of its state .*; expected lower"):
        monitor.fit([(X, Y)])


def test_a_state_is_of_tensors(monkeypatch):
    monkeypatch.setattr(Centered, "finish", lambda self, seen, network, plan: {"mean": 0.5})
    monitor = gradood.Monitor(NETWORK.model(), Centered())
    with pytest.raises(ConfigError, match="centered has a float as 'mean' in its state; expected"):
        monitor.fit([(X, Y)])


def test_a_plug_in_of_the_older_contract_works_and_is_told():
    expected = gradood.Monitor(NETWORK.model(), Centered()).fit([(X, Y)]).score(X)
    monitor = gradood.Monitor(NETWORK.model(), OldStyle())
    with pytest.warns(DeprecationWarning, match="old-style accumulates a mapping, which is depr"):
        monitor.fit([(X[:32], Y[:32]), (X[32:], Y[32:])])
    with pytest.warns(DeprecationWarning, match=r"evidence\.readings is deprecated"):
        scores = monitor.score(X)
    torch.testing.assert_close(scores, expected, rtol=1e-9, atol=0)
