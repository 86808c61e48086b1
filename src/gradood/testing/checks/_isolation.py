"""Isolation checks: detectors and monitors on one model do not affect each other."""

from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor, nn

from gradood.errors import GradoodError
from gradood.evidence import Evidence, gather
from gradood.monitor import Monitor
from gradood.registry import create
from gradood.testing.case import Case, total
from gradood.testing.checks.check import Collection

__all__ = ["ISOLATION"]

ISOLATION = Collection()

_COMPANIONS = ("energy", "gaia-a", "mahalanobis")


@ISOLATION.check()
def interleaved_monitors(case: Case) -> None:
    """Two monitors that take turns on one model, batch by batch, agree with each alone."""
    model = case.network.model()
    mine, other = case.unfitted(model), case.unfitted(model)
    theirs = case.data(seed=7)
    mine.bind(case.data()[0][0])
    other.bind(theirs[0][0])

    def interrupted(
        loader: list[tuple[Tensor, Tensor]], by: Monitor
    ) -> Iterator[tuple[Tensor, Tensor]]:
        for batch in loader:
            by.score(case.x[:3])
            yield batch

    other.fit(theirs)
    mine.fit(interrupted(case.data(), other))
    expected = case.fitted(data=theirs).score(case.x)
    pairs = [(x, mine.score(x), other.score(x)) for x in case.x.split(9)]
    case.agree(total([pair[1] for pair in pairs]), case.scores, "one of two monitors")
    case.agree(total([pair[2] for pair in pairs]), expected, "the other of two monitors")


@ISOLATION.check()
def alone_as_in_a_list(case: Case) -> None:
    """Beside other detectors, which read more and take gradients, the scores are the same."""
    detectors = {"mine": case.detector, **_companions(case)}
    monitor = Monitor(case.network.model(), detectors, link=case.network.link, progress=False)
    monitor.bind(case.data()[0][0])
    monitor.fit(case.data())
    scores = monitor.score(case.x)
    assert list(scores) == list(detectors), f"{list(scores)}, not {list(detectors)}"
    # torch takes another kernel for attention when gradients are on.
    attends = any(isinstance(m, nn.MultiheadAttention) for m in case.model.modules())
    case.agree(scores["mine"], case.scores, "in a list", relative=1e-5 if attends else 1e-12)


@ISOLATION.check()
def bare_or_in_a_list(case: Case) -> None:
    """One detector given bare gives a tensor; in a list, a mapping by its name."""
    monitor = Monitor(case.model, [case.detector], link=case.network.link, progress=False)
    monitor.bind(case.data()[0][0])
    monitor.fit(case.data())
    scores = monitor.score(case.x)
    assert isinstance(scores, dict), f"a {type(scores).__name__}, not a mapping"
    assert list(scores) == [case.detector.name], f"named {list(scores)}"
    case.agree(scores[case.detector.name], case.scores, "in a list of one", relative=1e-12)


@ISOLATION.check()
def measure_is_pure(case: Case) -> None:
    """`measure` gives the same bits twice and writes to neither evidence nor state."""
    evidence, state = _evidence(case), _state(case)
    given = [*evidence.tensors, *state.values()]
    before = [tensor.clone() for tensor in given]
    first = case.detector.measure(evidence, state)
    second = case.detector.measure(evidence, state)
    assert torch.equal(first, second), "measuring twice gives other scores"
    changed = [i for i, (a, b) in enumerate(zip(given, before, strict=True)) if not _equal(a, b)]
    assert not changed, f"tensors {changed} of evidence and state were overwritten"
    assert list(case.monitor.states.get(case.detector.name, {})) == list(state)
    case.agree(first, case.scores, "measured directly")


@ISOLATION.check()
def measures_what_it_planned(case: Case) -> None:
    """The reads of the plan suffice, and labels and other reads have no influence."""
    network = case.binding.network
    reads = case.reads
    more = [r for plan in _plans(case) for r in plan]
    labels = case.network.labels(len(case.x))
    with torch.no_grad():
        full = gather(network, case.x, (*more, *reads), labels)
    scores = case.detector.measure(full.only(reads), _state(case))
    case.agree(scores, case.scores, "from evidence with labels and more reads")
    without = replace(full.only(reads), labels=None)
    again = case.detector.measure(without, _state(case))
    assert torch.equal(scores, again), "labels have an influence on scores"


@ISOLATION.check()
def plan_is_repeatable(case: Case) -> None:
    """Planning again on the same network and probe gives the same plan."""
    network = case.binding.network
    probe = case.network.inputs(32, seed=2)
    first = case.detector.plan(network, probe)
    assert case.detector.plan(network, probe) == first, "planning twice gives two plans"
    assert first.reads, "the plan reads nothing"
    assert case.learns or not first.fit_reads, "no learner, yet it reads in a fit"
    assert all(isinstance(text, str) and text for text in (*first.caveats, *first.notes))


def _companions(case: Case) -> dict[str, object]:
    found: dict[str, object] = {}
    for name in _COMPANIONS:
        detector = create(name)
        try:
            Monitor(case.model, detector, link=case.network.link, progress=False).bind(case.x)
        except GradoodError:
            continue
        found[name] = detector
    return found


def _plans(case: Case) -> Iterator[tuple]:
    for name in ("energy", "gradnorm", "grood"):
        plan = create(name).plan(case.binding.network, case.network.inputs(32, seed=2))
        yield plan.reads + plan.fit_reads


def _evidence(case: Case) -> Evidence:
    reads = case.reads
    return gather(case.binding.network, case.x, reads).only(reads)


def _state(case: Case) -> dict[str, Tensor]:
    return dict(case.monitor.states.get(case.detector.name, {}))


def _equal(a: Tensor, b: Tensor) -> bool:
    return torch.equal(a.nan_to_num(), b.nan_to_num())
