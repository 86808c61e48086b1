"""p-values of a stream: exact ones in a bag that grows, and bounds given the calibration set."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from gradood.calibration import Calibration
from gradood.errors import ConfigError
from gradood.watch._bounds import tail_bounds
from gradood.watch._cells import Cells, Vector
from gradood.watch._random import CALIBRATION_TIES, CLASSES, NOISE, TIES, uniform, uniforms

__all__ = ["Counts", "NO_CLASS", "Reference"]

Counts = Mapping[int, Vector]
"""Predicted class → (K,) int64 items of the stream in each cell; under −1 without classes."""

NO_CLASS = -2
"""Stands for a class without calibration samples, of which nothing can be said."""
_ALL = -1
_BLOCK = 1024


@dataclass(frozen=True, eq=False)
class Reference:
    """What one calibration says of a stream, item after item.

    Attributes:
        cells: predicted class → cells of its calibration scores; under −1 without classes.
        seed: of ties and of places within cells.
        risk: δ, the probability that one of the bounds fails; None for exact p-values.
    """

    cells: Mapping[int, Cells]
    seed: int
    risk: float | None = None

    @staticmethod
    def of(calibration: Calibration, seed: int, risk: float | None = None) -> "Reference":
        """The reference of a calibration; per class if that is.

        Args:
            calibration: of one statistic.
            seed: see `Reference`.
            risk: see `Reference`.
        """
        scores = calibration.scores.numpy()
        ties = uniforms(seed, CALIBRATION_TIES, np.arange(len(scores)))
        tolerance = calibration.tolerance
        if calibration.classes is None:
            return Reference({_ALL: Cells.of(scores, ties, tolerance)}, seed, risk)
        classes = calibration.classes.numpy()
        cells = {
            int(number): Cells.of(scores[classes == number], ties[classes == number], tolerance)
            for number in np.unique(classes)
        }
        return Reference(cells, seed, risk)

    @property
    def per_class(self) -> bool:
        """Whether an input is compared with samples of its predicted class."""
        return _ALL not in self.cells

    @property
    def cells_and_bounds(self) -> list[tuple[Cells, Vector | None]]:
        """Cells, and the p-value that each stands for in PAC mode, of each class."""
        bounds = None if self.risk is None else self._bounds
        return [
            (cells, None if bounds is None else bounds[number])
            for number, cells in self.cells.items()
        ]

    def begin(self) -> Counts:
        """Counts of a stream of which nothing was seen."""
        return {number: np.zeros(len(cells), np.int64) for number, cells in self.cells.items()}

    def classes(self, labels: Vector | None, numbers: Vector) -> Vector:
        """The class that each item is compared with, (N,) int64, or `NO_CLASS`.

        An input without a label, as it is not finite, has that of a random calibration class.

        Args:
            labels: (N,) predicted classes, −1 for an input without; None where there are none.
            numbers: (N,) int64 of the items, for random numbers.

        Raises:
            ConfigError: labels are needed.
        """
        if not self.per_class:
            return np.full(len(numbers), _ALL)
        if labels is None:
            raise ConfigError(
                "the calibration is per class; give the predicted class of each score by labels=, "
                "or what monitor.predict gives."
            )
        known = np.array(sorted(self.cells))
        drawn = (uniforms(self.seed, CLASSES, numbers) * len(known)).astype(np.int64)
        compared = np.where(labels < 0, known[drawn], labels)
        return np.where(np.isin(compared, known), compared, NO_CLASS)

    def p_values(
        self, scores: Vector, classes: Vector, numbers: Vector, counts: Counts
    ) -> tuple[Vector, Counts]:
        """p-values of items in their order, and the counts after them.

        Args:
            scores: (N,) float64 without NaN.
            classes: (N,) from `classes`, none of them `NO_CLASS`.
            numbers: (N,) int64 of the steps, for random numbers.
            counts: before them; not changed.

        Returns:
            (N,) float64 in (0, 1], and counts.

        Cost:
            O(N K).
        """
        if len(scores) == 1 and self.risk is None:  # As below; a server asks for one at a time.
            return self._p_value(float(scores[0]), int(classes[0]), int(numbers[0]), counts)
        p = np.empty(len(scores))
        after = dict(counts)
        for number in np.unique(classes).tolist() if self.per_class else [_ALL]:
            mine = np.flatnonzero(classes == number)
            cells = self.cells[number]
            if self.risk is not None:
                p[mine] = self._bounds[number][cells.find_conservative(scores[mine])]
                continue
            for start in range(0, len(mine), _BLOCK):
                rows = mine[start : start + _BLOCK]
                found = cells.find(scores[rows], uniforms(self.seed, TIES, numbers[rows]))
                noise = uniforms(self.seed, NOISE, numbers[rows])
                p[rows], after[number] = _urn(cells, after[number], found, noise)
        return p, after

    def _p_value(
        self, score: float, number: int, place: int, counts: Counts
    ) -> tuple[Vector, Counts]:
        cells, own = self.cells[number], counts[number]
        cell = cells.find_one(score, uniform(self.seed, TIES, place))
        weights = own + cells.sizes
        end, total = weights[: cell + 1].sum(), weights.sum()
        noise = uniform(self.seed, NOISE, place)
        p = (end - weights[cell] + noise * weights[cell]) / total
        after = own.copy()
        after[cell] += 1
        return np.array([p]), {**counts, number: after}

    @cached_property
    def _bounds(self) -> dict[int, Vector]:
        """Class → (K,) bound on the probability of each cell and all more extreme ones."""
        assert self.risk is not None
        one = self.risk / max(1, sum(len(cells) - 1 for cells in self.cells.values()))
        return {
            number: np.append(tail_bounds(cells.samples, cells.ranks, one), 1.0)
            for number, cells in self.cells.items()
        }


def _urn(cells: Cells, counts: Vector, found: Vector, noise: Vector) -> tuple[Vector, Vector]:
    """p-values of items in a bag that each of them joins, and the counts after the last.

    The cell of an item holds as many gaps between earlier scores as calibration gave it, and one
    more for each item that fell there; the next item is in each gap with the same probability.
    """
    entered = np.zeros((len(found) + 1, len(cells)), np.int64)
    entered[np.arange(len(found)) + 1, found] = 1
    entered = np.cumsum(entered, 0) + (counts + cells.sizes)
    rows = np.arange(len(found))
    before = entered[:-1]
    ends = np.cumsum(before, 1)[rows, found]
    width = before[rows, found]
    gaps = cells.samples + 1 + int(counts.sum()) + rows
    return (ends - width + noise * width) / gaps, entered[-1] - cells.sizes
