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
    """Seconds of each call, all timed once per round in a shuffled order.

    The median over the fastest half of the rounds: other work on the machine only ever adds time.
    """
    times: dict[str, list[float]] = {name: [] for name in calls}
    order = list(calls)
    rng = random.Random(0)
    for call in calls.values():
        call()
    for _ in range(rounds):
        rng.shuffle(order)
        for name in order:
            start = time.perf_counter()
            calls[name]()
            times[name].append(time.perf_counter() - start)
    fastest = {name: sorted(seconds)[: max(1, rounds // 2)] for name, seconds in times.items()}
    return {name: statistics.median(seconds) for name, seconds in fastest.items()}
