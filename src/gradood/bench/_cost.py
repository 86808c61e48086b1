"""What each method costs beside the plain forward pass of the same model, measured in one go."""

import os
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile

from gradood._engine.detector_set import DetectorSet
from gradood._engine.rows import Inputs
from gradood.evidence import LOGITS, own_pass
from gradood.taps import left_as_found

__all__ = ["costs"]

_ROUNDS = 3
_GOAL = 0.02
"""Seconds that one timed forward should take at least; faster ones are repeated."""
_MOST = 0.2
"""Seconds that it should take at most; slower ones get fewer images."""
_FEWEST = 4


def costs(detectors: DetectorSet, x: Inputs, *, rounds: int = _ROUNDS) -> dict[str, dict[str, Any]]:
    """Time and memory of each method alone, as ratios to the plain forward pass.

    In every round each method is timed once, with a plain forward right before and right after: a
    shared machine changes its speed within a minute, and less from one call to the next. The
    median of the rounds. Memory is the largest sum of tensors alive at once during a call, of the
    CPU or of the CUDA device, beyond what was there before.

    Args:
        detectors: bound, and fitted where they learn.
        x: (batch, …) a few inputs, of which fewer are taken if the network is slow.
        rounds: repetitions, at least 1.

    Returns:
        Method → ``seconds_per_image``, ``time_ratio``, ``memory_ratio``, ``fit_passes``, ``pass``,
        and ``images``, how many it was measured on.

    Cost:
        About ``4 · rounds`` looks at `x` per method.
    """
    network = detectors.binding.network
    with left_as_found(network.views) as view:
        return _measured(detectors, view.module, x.to(network.device), rounds)


def _measured(
    detectors: DetectorSet, module: nn.Module, x: Inputs, rounds: int
) -> dict[str, dict[str, Any]]:
    """The costs, with a module for the plain forward."""
    device = detectors.binding.network.device

    def plain() -> object:
        with torch.inference_mode():
            return module(x)

    plain()
    once = max(_seconds(plain, 1), 1e-6)
    x = x[: max(_FEWEST, int(len(x) * _MOST / once))]
    repeats = max(1, round(_GOAL / once))
    calls = {name: _call(detectors, name, x) for name in detectors.detectors}
    for call in calls.values():
        call()
    ratios, forward = _interleaved(plain, calls, repeats, rounds)
    floor = max(1, _peak(plain, device))
    second = statistics.median(forward) / repeats / len(x) if forward else 0.0
    plans = detectors.binding.plans
    return {
        name: {
            "seconds_per_image": second * statistics.median(ratios[name]),
            "time_ratio": statistics.median(ratios[name]),
            "memory_ratio": _peak(call, device) / floor,
            "fit_passes": int(detectors.detectors[name].learns),
            "pass": "own" if any(map(own_pass, plans[name].reads)) else "shared",
            "images": len(x),
        }
        for name, call in calls.items()
    }


def _interleaved(
    plain: Callable[[], object],
    calls: Mapping[str, Callable[[], object]],
    repeats: int,
    rounds: int,
) -> tuple[dict[str, list[float]], list[float]]:
    """Of every round: each call's time beside the plain ones around it; times of the plain ones."""
    ratios: dict[str, list[float]] = {name: [] for name in calls}
    forward: list[float] = []
    for _ in range(rounds):
        before = _seconds(plain, repeats)
        for name, call in calls.items():
            seconds = _seconds(call, repeats)
            after = _seconds(plain, repeats)
            ratios[name].append(2 * seconds / (before + after))
            forward.append(before)
            before = after
    return ratios, forward


def _call(detectors: DetectorSet, name: str, x: Inputs) -> Callable[[], object]:
    """One pass of `x` for one method: what it reads, and its score."""
    reader, reads = detectors.reader, detectors.reads(name)

    def call() -> object:
        return detectors.measure(name, reads, reader.gather(x, (*reads, LOGITS), None))

    return call


def _seconds(call: Callable[[], object], repeats: int) -> float:
    cuda = torch.cuda.is_available()
    if cuda:
        torch.cuda.synchronize()
    start = time.perf_counter()
    for _ in range(repeats):
        call()
    if cuda:
        torch.cuda.synchronize()
    return time.perf_counter() - start


def _peak(call: Callable[[], object], device: torch.device) -> int:
    """Largest sum of bytes alive during a call."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        call()
        torch.cuda.synchronize(device)
        return torch.cuda.max_memory_allocated(device) - before
    with _quiet_profiler(), profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
        call()
    assert seen.profiler is not None
    results: Any = seen.profiler.kineto_results
    events = [event for event in results.events() if event.name() == "[memory]"]
    live = peak = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        live += event.nbytes()
        peak = max(peak, live)
    return peak


@contextmanager
def _quiet_profiler() -> Iterator[None]:
    """Kineto writes two lines to stderr per profile, unless it is told not to before the first."""
    name = "KINETO_LOG_LEVEL"
    if name in os.environ:
        yield
        return
    os.environ[name] = "99"
    try:
        yield
    finally:
        os.environ.pop(name, None)
