"""Checks that detectors and monitors on one model do not meet."""

from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor, nn

from gradood.errors import GradoodError
from gradood.evidence import Evidence, gather
from gradood.monitor import Monitor
from gradood.registry import create
from gradood.testing.checks.check import Collection
from gradood.testing.subject import Subject, total

__all__ = ["COMPANY"]

COMPANY = Collection()

_COMPANIONS = ("energy", "gaia-a", "mahalanobis")


@COMPANY.check()
def interleaved_monitors(subject: Subject) -> None:
    """Two monitors that take turns on one model, batch by batch, agree with each alone."""
    model = subject.network.model()
    mine, other = subject.unfitted(model), subject.unfitted(model)
    theirs = subject.data(seed=7)
    mine.bind(subject.data()[0][0])
    other.bind(theirs[0][0])

    def interrupted(
        loader: list[tuple[Tensor, Tensor]], by: Monitor
    ) -> Iterator[tuple[Tensor, Tensor]]:
        for batch in loader:
            by.score(subject.x[:3])
            yield batch

    other.fit(theirs)
    mine.fit(interrupted(subject.data(), other))
    expected = subject.fitted(data=theirs).score(subject.x)
    pairs = [(x, mine.score(x), other.score(x)) for x in subject.x.split(9)]
    subject.agree(total([pair[1] for pair in pairs]), subject.scores, "one of two monitors")
    subject.agree(total([pair[2] for pair in pairs]), expected, "the other of two monitors")


@COMPANY.check()
def alone_as_in_a_list(subject: Subject) -> None:
    """Beside other detectors, which read more and take gradients, the scores are the same."""
    detectors = {"mine": subject.detector, **_companions(subject)}
    monitor = Monitor(subject.network.model(), detectors, progress=False)
    monitor.bind(subject.data()[0][0])
    monitor.fit(subject.data())
    scores = monitor.score(subject.x)
    assert list(scores) == list(detectors), f"{list(scores)}, not {list(detectors)}"
    # torch takes another kernel for attention when gradients are on.
    attends = any(isinstance(m, nn.MultiheadAttention) for m in subject.model.modules())
    subject.agree(scores["mine"], subject.scores, "in a list", relative=1e-5 if attends else 1e-12)


@COMPANY.check()
def bare_or_in_a_list(subject: Subject) -> None:
    """One detector given bare gives a tensor; in a list, a mapping by its name."""
    monitor = Monitor(subject.model, [subject.detector], progress=False)
    monitor.bind(subject.data()[0][0])
    monitor.fit(subject.data())
    scores = monitor.score(subject.x)
    assert isinstance(scores, dict), f"a {type(scores).__name__}, not a mapping"
    assert list(scores) == [subject.detector.name], f"named {list(scores)}"
    subject.agree(scores[subject.detector.name], subject.scores, "in a list of one", relative=1e-12)


@COMPANY.check()
def measure_is_pure(subject: Subject) -> None:
    """`measure` gives the same bits twice and writes to neither evidence nor state."""
    evidence, state = _evidence(subject), _state(subject)
    given = [*evidence.tensors, *state.values()]
    before = [tensor.clone() for tensor in given]
    first = subject.detector.measure(evidence, state)
    second = subject.detector.measure(evidence, state)
    assert torch.equal(first, second), "measuring twice gives other scores"
    changed = [i for i, (a, b) in enumerate(zip(given, before, strict=True)) if not _equal(a, b)]
    assert not changed, f"tensors {changed} of evidence and state were overwritten"
    assert list(subject.monitor.states.get(subject.detector.name, {})) == list(state)
    subject.agree(first, subject.scores, "measured directly")


@COMPANY.check()
def measures_what_it_planned(subject: Subject) -> None:
    """The reads of the plan suffice, and labels and other reads have no influence."""
    network = subject.binding.network
    reads = subject.reads
    more = [r for plan in _plans(subject) for r in plan]
    labels = subject.network.labels(len(subject.x))
    with torch.no_grad():
        full = gather(network, subject.x, (*more, *reads), labels)
    scores = subject.detector.measure(full.only(reads), _state(subject))
    subject.agree(scores, subject.scores, "from evidence with labels and more reads")
    without = replace(full.only(reads), labels=None)
    again = subject.detector.measure(without, _state(subject))
    assert torch.equal(scores, again), "labels have an influence on scores"


@COMPANY.check()
def plan_is_repeatable(subject: Subject) -> None:
    """Planning again on the same network and probe gives the same plan."""
    network = subject.binding.network
    probe = subject.network.inputs(32, seed=2)
    first = subject.detector.plan(network, probe)
    assert subject.detector.plan(network, probe) == first, "planning twice gives two plans"
    assert first.reads, "the plan reads nothing"
    assert subject.learns or not first.fit_reads, "no learner, yet it reads in a fit"
    assert all(isinstance(text, str) and text for text in (*first.caveats, *first.notes))


def _companions(subject: Subject) -> dict[str, object]:
    found: dict[str, object] = {}
    for name in _COMPANIONS:
        detector = create(name)
        try:
            Monitor(subject.model, detector, progress=False).bind(subject.x)
        except GradoodError:
            continue
        found[name] = detector
    return found


def _plans(subject: Subject) -> Iterator[tuple]:
    for name in ("energy", "gradnorm", "grood"):
        plan = create(name).plan(subject.binding.network, subject.network.inputs(32, seed=2))
        yield plan.reads + plan.fit_reads


def _evidence(subject: Subject) -> Evidence:
    reads = subject.reads
    return gather(subject.binding.network, subject.x, reads).only(reads)


def _state(subject: Subject) -> dict[str, Tensor]:
    return dict(subject.monitor.states.get(subject.detector.name, {}))


def _equal(a: Tensor, b: Tensor) -> bool:
    return torch.equal(a.nan_to_num(), b.nan_to_num())
