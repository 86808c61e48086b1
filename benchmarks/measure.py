"""Timing and memory, as ratios taken in one run: absolute times mean nothing on shared machines."""

import random
import statistics
import time
from collections.abc import Callable

from torch.profiler import ProfilerActivity, profile

__all__ = ["interleaved", "peak_bytes"]


def peak_bytes(call: Callable[[], object]) -> int:
    """Largest sum of live tensor bytes during `call`, beyond what was there before."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
        call()
    live = peak = 0
    assert seen.profiler is not None
    events = [e for e in seen.profiler.kineto_results.events() if e.name() == "[memory]"]
    for event in sorted(events, key=lambda e: e.start_ns()):
        live += event.nbytes()
        peak = max(peak, live)
    return peak


def interleaved(calls: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Time of each call as a ratio to the first, which is the baseline.

    In every round each call is timed once, in a shuffled order, with the baseline right before and
    right after it: a shared machine changes its speed by half within a minute, and by less from one
    call to the next. The median over the rounds.
    """
    ratios: dict[str, list[float]] = {name: [] for name in calls}
    baseline, *others = calls
    rng = random.Random(0)
    for call in calls.values():
        call()
    for _ in range(rounds):
        rng.shuffle(others)
        before = _seconds(calls[baseline])
        for name in others:
            own = _seconds(calls[name])
            after = _seconds(calls[baseline])
            ratios[name].append(2 * own / (before + after))
            before = after
    return {n: statistics.median(found) if found else 1.0 for n, found in ratios.items()}


def _seconds(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start
