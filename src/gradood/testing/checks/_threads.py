"""Checks of detectors, monitors and models that several threads use at once."""

import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn

import gradood.monitor
from gradood.taps import logits_of
from gradood.testing.case import Case
from gradood.testing.checks.check import Collection

__all__ = ["THREADS"]

THREADS = Collection()

_LONGEST = 60.0
"""Seconds that a check may take before it is called stuck."""


@THREADS.check()
def two_threads_first_batch(case: Case) -> None:
    """Two new monitors on one model, and one that is shared, are first used by two threads."""
    model = case.network.model()
    for monitors in (
        [case.unfitted(model) for _ in range(2)],
        [case.unfitted(model)] * 2,
    ):
        together: list[Callable[[], Tensor]] = [
            lambda monitor=monitor: _first_scores(case, monitor) for monitor in monitors
        ]
        for scores in _at_once(together):
            assert torch.equal(scores, case.scores), "a first use beside another gives others"
        for monitor in monitors:
            later = monitor.score(case.x)
            assert torch.equal(later, case.scores), "other scores ever after"


@THREADS.check()
def load_beside_score(case: Case) -> None:
    """A saved monitor is loaded while another scores on the same model; both are right."""
    if not case.registered:  # Only what the registry names can be found again.
        return
    monitor, expected = case.monitor, case.scores
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "saved.safetensors"
        monitor.save(path)
        loaded, scores = _at_once(
            [
                lambda: gradood.monitor.load(path, case.model, progress=False).score(case.x),
                lambda: monitor.score(case.x),
            ]
        )
    assert torch.equal(scores, expected), "scores beside a load are others"
    assert torch.equal(loaded, expected), "what was loaded beside a score scores otherwise"


@THREADS.check()
def training_thread_keeps_its_mode(case: Case) -> None:
    """A thread that trains the model sees no other mode, gradient, hook or output by a score."""
    model = case.network.model().train()
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._NormBase):
            module.momentum = 0.0  # Its statistics stay, so that scores do.
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        if isinstance(module, nn.MultiheadAttention):
            module.dropout = 0.0
    wanted = case.fitted(model).score(case.x)
    step = _training_step(model, case.x)
    expected = step()
    wrong: list[str] = []
    stop = threading.Event()

    def train() -> None:
        while not stop.is_set():
            if not torch.equal(step(), expected):
                wrong.append("its output")
            if not all(module.training for module in model.modules()):
                wrong.append("its mode")
            if any(module._forward_hooks for module in model.modules()):
                wrong.append("its hooks")

    def score() -> Tensor:
        try:
            return case.fitted(model).score(case.x)
        finally:
            stop.set()

    def training() -> Tensor:
        train()
        return torch.empty(0)

    scores, _ = _at_once([score, training])
    assert not wrong, f"a score changed {', '.join(dict.fromkeys(wrong))} in a training thread"
    case.agree(scores, wanted, "beside a training thread", relative=1e-12)


def _first_scores(case: Case, monitor: gradood.monitor.Monitor) -> Tensor:
    monitor.bind(case.data()[0][0])
    if case.learns:
        monitor.fit(case.data())
    return monitor.score(case.x)


def _training_step(model: nn.Module, x: Tensor) -> Callable[[], Tensor]:
    def step() -> Tensor:
        logits = logits_of(model(x))
        frozen = not any(parameter.requires_grad for parameter in model.parameters())
        assert logits.requires_grad != frozen, "a graph where there is none, or none where one is"
        return logits.detach()

    return step


def _at_once(calls: list[Callable[[], Tensor]]) -> list[Tensor]:
    """What each gives, run by a thread of its own at the same time; the first error is raised."""
    results: dict[int, Tensor] = {}
    errors: list[BaseException] = []
    start = threading.Barrier(len(calls), timeout=_LONGEST)

    def run(place: int, call: Callable[[], Tensor]) -> None:
        try:
            start.wait()
            results[place] = call()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=entry) for entry in enumerate(calls)]
    with _frequent_switches():
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(_LONGEST)
    assert not any(thread.is_alive() for thread in threads), "threads wait for one another"
    if errors:
        raise errors[0]
    return [results[place] for place in range(len(calls))]


@contextmanager
def _frequent_switches() -> Iterator[None]:
    """Threads take turns as often as Python allows, so that they meet where they can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        yield
    finally:
        sys.setswitchinterval(before)
