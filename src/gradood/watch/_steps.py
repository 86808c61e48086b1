"""From the items of a stream to the steps that are bet on, and the bets on them."""

import hashlib
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import wraps
from typing import Any, Concatenate, ParamSpec, TypeVar

import numpy as np

from gradood.errors import DataError
from gradood.watch._bets import bet_weights, betting_factors
from gradood.watch._cells import Vector
from gradood.watch._evidence import advance, totals
from gradood.watch._random import GROUPS, mixed, uniforms
from gradood.watch._reference import NO_CLASS, Reference
from gradood.watch._state import Track, WatchState
from gradood.watch._statistic import Items

__all__ = ["Alarms", "Selection", "follow", "group_keys", "one_at_a_time"]

RECENT = 64
"""Contents, or groups, that are remembered."""
_CHANGING = threading.RLock()
_P = ParamSpec("_P")
_R = TypeVar("_R")
_W = TypeVar("_W")


def one_at_a_time(
    method: Callable[Concatenate[_W, _P], _R],
) -> Callable[Concatenate[_W, _P], _R]:
    """A method that changes a state, made to wait for others that do: none is lost to a thread."""

    @wraps(method)
    def alone(self: _W, *args: _P.args, **options: _P.kwargs) -> _R:
        with _CHANGING:
            return method(self, *args, **options)

    return alone


@dataclass(frozen=True, slots=True)
class Alarms:
    """When to raise which alarm.

    Attributes:
        level: of the test's capital.
        rate: of the detector's.
        falling: whether to bet on scores that fall as well.
    """

    level: float
    rate: float
    falling: bool


@dataclass(frozen=True, eq=False, slots=True)
class Selection:
    """Which items are bet on, and which bets are averaged.

    Attributes:
        rows: (M,) places of the items.
        steps: (M,) the step of each, ascending from 0.
        ends: (steps,) int64: items seen with the last one of each step.
    """

    rows: Vector
    steps: Vector
    ends: Vector


def follow(
    state: WatchState,
    references: Sequence[Reference],
    items: Items,
    groups: Vector | None,
    alarms: Alarms,
) -> WatchState:
    """The state after some items.

    Args:
        state: before them; not changed.
        references: of each track.
        items: in order.
        groups: (N,) int64 key of the group of each, or None.
        alarms: when to raise them.

    Cost:
        O(N K), and some 20 µs for each step.
    """
    numbers = state.seen + 1 + np.arange(len(items))
    classes = [reference.classes(items.labels, numbers) for reference in references]
    known = _known(references, classes)
    bounds = references[0].risk is not None
    if groups is None:
        rows = np.arange(len(items)) if known is None else np.flatnonzero(known)
        chosen = Selection(rows, np.arange(len(rows)), numbers[rows])
        new = len(rows)
    else:
        fresh = ~np.isin(groups, np.array(state.recent, np.int64))
        fresh = fresh if known is None else known & fresh
        order = _hashed(items, references[0].seed, numbers)
        chosen = _grouped(groups, np.flatnonzero(fresh), order, numbers, every=bounds)
        new = int(fresh.sum())
    recent, repeats = _noted(state.recent, items.keys if groups is None else groups)
    if groups is not None:
        repeats = int(np.isin(groups, np.array(state.recent, np.int64)).sum())
    factors: list[Vector] = []
    tracks: list[Track] = []
    places = state.steps + 1 + chosen.steps
    for reference, track, each, scores in zip(
        references, state.tracks, classes, items.scores, strict=True
    ):
        at = chosen.rows
        p, counts = reference.p_values(scores[at], each[at], places, track.counts)
        factors.append(_averaged(betting_factors(p, alarms.falling), chosen.steps))
        tracks.append(Track(counts, track.evidence.copy()))
    raised = _advanced(state, tracks, factors, chosen.ends, alarms)
    return replace(
        state,
        tracks=tuple(tracks),
        seen=state.seen + len(items),
        passed=state.passed + len(items) - new,
        recent=recent,
        repeats=state.repeats + repeats,
        **raised,
    )


def _known(references: Sequence[Reference], classes: Sequence[Vector]) -> Vector | None:
    """(N,) whether an item's class has calibration samples by every reference; None if all have."""
    if not any(reference.per_class for reference in references):
        return None
    return np.logical_and.reduce([each != NO_CLASS for each in classes])


def _advanced(
    state: WatchState,
    tracks: Sequence[Track],
    factors: Sequence[Vector],
    ends: Vector,
    alarms: Alarms,
) -> dict[str, Any]:
    """What changes by some steps; the capital of the tracks is changed in place."""
    weights = bet_weights(alarms.falling)
    evidences = [track.evidence for track in tracks]
    alarm, warning, warnings = state.alarm, state.warning, state.warnings
    highest, step = state.highest, state.steps - state.begun
    for place, end in enumerate(ends.tolist()):
        step += 1
        ever = rate = np.inf
        for evidence, factor in zip(evidences, factors, strict=True):
            advance(evidence.capital, factor[place], step)
            evidence.date(factor[place], end)
            own = totals(evidence.capital, weights, step)
            ever, rate = min(ever, float(own[0])), min(rate, float(own[1]))
        highest = max(highest, ever)
        if ever >= alarms.level and alarm is None:
            alarm = end
        if rate >= alarms.rate:
            warnings += 1
            warning = end if warning is None else warning
            for evidence in evidences:
                evidence.capital[1] = 0
    return {
        "steps": state.begun + step,
        "alarm": alarm,
        "warning": warning,
        "warnings": warnings,
        "highest": highest,
    }


def group_keys(groups: Any, count: int) -> Vector:
    """(N,) int64 keys of groups: equal for those of one name, whatever the process.

    Args:
        groups: (N,) names: texts or whole numbers, in a list, an array or a tensor.
        count: N.

    Raises:
        DataError: it is none of these, or of another length.
    """
    listed: Any = groups.tolist() if hasattr(groups, "tolist") else groups
    if isinstance(listed, str | bytes) or not isinstance(listed, Iterable):
        listed = [listed]
    names: list[Any] = list(listed)
    if len(names) != count or not all(isinstance(name, str | int) for name in names):
        raise DataError(
            f"groups hold {len(names)} names; expected a text or a whole number for each of "
            f"{count} items."
        )
    keys = {name: _key(name) for name in dict.fromkeys(names)}
    return np.array([keys[name] for name in names], np.int64)


def _key(name: str | int) -> int:
    digest = hashlib.blake2b(str(name).encode("utf-8", "backslashreplace"), digest_size=8).digest()
    return int.from_bytes(digest, "little", signed=True)


def _hashed(items: Items, seed: int, numbers: Vector) -> Vector:
    """(N,) by which the item of a group is chosen: the content's hash, else that of the place."""
    if items.keys is None:
        return uniforms(seed, GROUPS, numbers)
    return mixed(np.uint64(seed), items.keys)


def _grouped(
    groups: Vector, rows: Vector, order: Vector, numbers: Vector, *, every: bool
) -> Selection:
    """One step for each group: all of its rows, or the one that comes first in `order`."""
    members: dict[int, list[int]] = {}
    for row in rows.tolist():
        members.setdefault(int(groups[row]), []).append(row)
    chosen = [m if every else [min(m, key=order.__getitem__)] for m in members.values()]
    ends = [int(numbers[m[-1]]) for m in members.values()]
    flat = [(row, step) for step, own in enumerate(chosen) for row in own]
    pairs = np.array(flat, np.int64).reshape(-1, 2)
    return Selection(pairs[:, 0], pairs[:, 1], np.maximum.accumulate(np.array(ends, np.int64)))


def _averaged(factors: Vector, steps: Vector) -> Vector:
    """Mean of the factors of each step, (steps, B)."""
    if not len(steps) or len(steps) == steps[-1] + 1:
        return factors
    starts = np.flatnonzero(np.diff(steps, prepend=-1))
    sizes = np.diff(starts, append=len(steps))
    return np.add.reduceat(factors, starts, 0) / sizes[:, None]


def _noted(recent: tuple[int, ...], keys: Vector | None) -> tuple[tuple[int, ...], int]:
    """The last of all keys, and how many keys were among the last when they came."""
    if keys is None:
        return recent, 0
    known, repeats = dict.fromkeys(recent), 0
    for key in keys.tolist():
        if key in known:
            del known[key]
            repeats += 1
        elif len(known) >= RECENT:
            del known[next(iter(known))]
        known[key] = None
    return tuple(known), repeats
