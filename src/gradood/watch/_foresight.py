"""How soon a watch would notice a share of out-of-distribution items, by simulation."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from gradood._io.arguments import plain, real
from gradood.errors import ConfigError
from gradood.watch._bets import bet_weights, betting_factors
from gradood.watch._cells import Vector
from gradood.watch._evidence import advance, totals
from gradood.watch._random import TIES, uniforms
from gradood.watch._reference import Reference
from gradood.watch._statistic import score_vector
from gradood.watch._steps import Alarms

__all__ = ["Foresight", "Streams", "first_alarms", "foreseen"]

_STREAMS = 200
_BLOCK = 512
Matrix = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Foresight:
    """When the alarm would be raised, were the share there from the first item on.

    Attributes:
        share: of items that are out-of-distribution.
        samples: calibration scores.
        horizon: items that were simulated.
        found: share of streams with an alarm within the horizon.
        median: items until the alarm in half of all streams; None if fewer have one.
        most: in 95 % of all streams, likewise.
        best_case: whether the out-of-distribution items were taken to score above all others.
    """

    share: float
    samples: int
    horizon: int
    found: float
    median: int | None
    most: int | None
    best_case: bool

    @property
    def detectable(self) -> bool:
        """Whether at least half of all streams have an alarm within the horizon."""
        return self.median is not None

    def __str__(self) -> str:
        what = f"{100 * self.share:g} % of items out-of-distribution"
        if self.best_case:
            what += " that score above all others"
        if self.median is None:
            return (
                f"{what}: not detectable with n={self.samples} calibration scores within "
                f"{self.horizon:,} items (found in {self.found:.0%} of streams)"
            )
        most = f"{self.most:,} in 95 %" if self.most is not None else f"found in {self.found:.0%}"
        return f"{what}: alarm after {self.median:,} items in half of all streams, {most}"


class Streams:
    """Several streams at once, each with a bag and capital of its own.

    Args:
        sizes: (K,) gaps of each cell.
        bounds: (K,) p-value of each cell; None for exact p-values.
        alarms: when to raise them.
        streams: S.
    """

    def __init__(self, sizes: Vector, bounds: Vector | None, alarms: Alarms, streams: int) -> None:
        self._bounds = bounds
        self._falling = alarms.falling
        self._weights = bet_weights(alarms.falling)
        self.capital = np.zeros((2, streams, len(self._weights)))
        self._ends = np.zeros((streams, len(sizes) + 1), np.int64)
        self._ends[:, 1:] = np.cumsum(sizes)
        self._rows, self._columns = np.arange(streams), np.arange(len(sizes) + 1)
        self.step = 0

    def p_values(self, cells: Vector, noise: Vector) -> Vector:
        """p-values of one item of each stream, which joins the bag.

        Args:
            cells: (S,) that it falls into.
            noise: (S,) uniform, its place within the cell.
        """
        if self._bounds is not None:
            return self._bounds[cells]
        ends = self._ends
        low, high = ends[self._rows, cells], ends[self._rows, cells + 1]
        p = (low + noise * (high - low)) / ends[:, -1]
        ends += self._columns > cells[:, None]
        return p

    def advance(self, p: Vector) -> Matrix:
        """M and R of each stream after a step, (2, S).

        Args:
            p: (S,) p-values; or (G, S) of the items of a group, whose bets are averaged.
        """
        self.step += 1
        factors = betting_factors(p, self._falling)
        factors = factors.mean(0) if factors.ndim == 3 else factors
        advance(self.capital, factors, self.step)
        return totals(self.capital, self._weights, self.step)


def first_alarms(streams: Streams, cells: Iterator[Matrix], noise: Any, level: float) -> Vector:
    """The step of the first alarm of each stream, (S,) int64; 0 for none.

    Args:
        streams: before the first step.
        cells: blocks (steps, S).
        noise: generator of NumPy.
        level: of the test's capital.
    """
    first = np.zeros(streams.capital.shape[1], np.int64)
    for block in cells:
        for row in block:
            ever = streams.advance(streams.p_values(row, noise.random(len(row))))[0]
            first[(first == 0) & (ever >= level)] = streams.step
        if first.all():
            break
    return first


def foreseen(
    reference: Reference, alarms: Alarms, share: float, scores: Any, horizon: int
) -> Foresight:
    """The foresight of one calibration.

    The masses of the cells are drawn as those between order statistics are: by Dirichlet of their
    sizes. Items fall into cells by these masses, and a share of them as the examples do.

    Args:
        reference: of the calibration, not per class.
        alarms: when to raise them.
        share: of out-of-distribution items.
        scores: (m,) of examples; None for the most extreme cell.
        horizon: items.

    Raises:
        ConfigError: an option is out of range.
    """
    share = plain(share)
    number = real(share)
    if number is None or not 0 < number <= 1:
        raise ConfigError(f"share={share!r}; expected a number above 0, up to 1.")
    horizon = plain(horizon)
    if type(horizon) is not int or horizon < 1:
        raise ConfigError(f"horizon={horizon!r}; expected a whole number of items.")
    ((cells, bounds),) = reference.cells_and_bounds
    examples = np.empty(0) if scores is None else score_vector(scores)
    ood = cells.find_conservative(examples)
    if bounds is None:
        ood = cells.find(examples, uniforms(reference.seed, TIES, np.arange(len(examples))))
    rng = np.random.default_rng(0)
    masses = rng.dirichlet(cells.sizes, _STREAMS).cumsum(1)
    pool = ood if len(ood) else np.zeros(1, np.int64)

    def blocks() -> Iterator[Matrix]:
        for start in range(0, horizon, _BLOCK):
            size = min(_BLOCK, horizon - start)
            known = rng.random((size, _STREAMS, 1))
            found = (known > masses[None, :, :-1]).sum(2)
            other = rng.choice(pool, (size, _STREAMS))
            yield np.where(rng.random((size, _STREAMS)) < share, other, found)

    streams = Streams(cells.sizes, bounds, alarms, _STREAMS)
    first = first_alarms(streams, blocks(), rng, alarms.level)
    times = np.sort(np.where(first == 0, horizon + 1, first))
    half, most = (int(times[place]) for place in (_STREAMS // 2, _STREAMS * 19 // 20))
    return Foresight(
        share=float(share),
        samples=cells.samples,
        horizon=horizon,
        found=float((first > 0).mean()),
        median=half if half <= horizon else None,
        most=most if most <= horizon else None,
        best_case=not len(ood),
    )
