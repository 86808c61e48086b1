"""Cells between order statistics of calibration scores, and the cell of a score."""

from dataclasses import dataclass
from typing import Any

import numpy as np

__all__ = ["Cells", "Vector"]

Vector = np.ndarray[Any, np.dtype[Any]]
"""(N,) in NumPy."""

_TAIL = 40
"""Borders that would be in the tail and below it were there no end of ranks, spaced evenly by
ratio."""
_CHUNK = 4096


@dataclass(frozen=True, eq=False, slots=True)
class Cells:
    """K cells, from the most extreme one, cut at K − 1 of n calibration scores.

    Attributes:
        samples: n, from 0.
        ranks: (K − 1,) int64, ascending: the k-th cut is the `ranks[k]`-th largest score.
        scores: (K − 1,) float64, the cuts, descending.
        ties: (K − 1,) uniform numbers that put a cut in order among scores that equal it.
        sizes: (K,) int64: gaps between neighboring calibration scores in each cell; n + 1 in all.
        tolerance: scores that differ by no more are equal.
    """

    samples: int
    ranks: Vector
    scores: Vector
    ties: Vector
    sizes: Vector
    tolerance: float = 0.0

    @staticmethod
    def of(scores: Vector, ties: Vector, tolerance: float = 0.0) -> "Cells":
        """The cells of some calibration scores.

        Cuts are dense in the tail, by ratio of their ranks from the largest score on, and at each
        tenth of the bulk.

        Args:
            scores: (n,) float64, ascending, without NaN.
            ties: (n,) distinct numbers that order equal scores.
            tolerance: see `Cells`.

        Cost: O(K log n), and a sort of the scores equal to a cut for each.
        """
        n = len(scores)
        ranks = _ranks(n)
        cuts = scores[n - ranks] if n else np.empty(0)
        first = np.searchsorted(scores, cuts - tolerance, "left")
        last = np.searchsorted(scores, cuts + tolerance, "right")
        equal = {span: np.sort(ties[slice(*span)]) for span in set(_pairs(first, last))}
        # Above a cut are rank − 1 scores, of which n − last are larger anyway.
        order = [
            equal[span][span[1] - span[0] - (rank - (n - span[1]))]
            for span, rank in zip(_pairs(first, last), ranks.tolist(), strict=True)
        ]
        sizes = np.diff(np.concatenate([[0], ranks, [n + 1]])).astype(np.int64)
        return Cells(n, ranks, cuts, np.array(order), sizes, tolerance)

    def __len__(self) -> int:
        return len(self.sizes)

    def find(self, scores: Vector, ties: Vector) -> Vector:
        """The cell of each score, equal ones ordered by `ties`: (N,) int64, 0 = most extreme.

        Args:
            scores: (N,) without NaN.
            ties: (N,) uniform numbers.
        """
        found = np.empty(len(scores), np.int64)
        for start in range(0, len(scores), _CHUNK):
            part = slice(start, start + _CHUNK)
            values = scores[part, None]
            later = ties[part, None] > self.ties
            above = np.where(self._equal(values), later, values > self.scores)
            found[part] = len(self.scores) - above.sum(1)
        return found

    def find_one(self, score: float, tie: float) -> int:
        """The cell of one score, as `find` gives it.

        Args:
            score: no NaN.
            tie: a uniform number.
        """
        equal = self._equal(score)
        above = score > self.scores
        if equal.any():
            above = np.where(equal, tie > self.ties, above)
        return len(self.scores) - int(np.count_nonzero(above))

    def find_conservative(self, scores: Vector) -> Vector:
        """The cell of each score; one that equals a cut is in the less extreme cell: (N,) int64.

        Args:
            scores: (N,) without NaN.
        """
        least = scores - self.tolerance
        return len(self.scores) - np.searchsorted(self.scores[::-1], least, "left")

    def _equal(self, values: Vector | float) -> Vector:
        equal: Vector = np.equal(values, self.scores)  # As inf − inf is NaN.
        if self.tolerance:
            with np.errstate(invalid="ignore"):
                equal |= np.abs(values - self.scores) <= self.tolerance
        return equal


def _pairs(first: Vector, last: Vector) -> list[tuple[int, int]]:
    return list(zip(first.tolist(), last.tolist(), strict=True))


def _ranks(n: int) -> Vector:
    if not n:
        return np.empty(0, np.int64)
    tail = np.round(np.geomspace(1, n, _TAIL))
    bulk = np.round(np.linspace(0.1, 0.9, 9) * (n + 1))
    return np.unique(np.clip(np.concatenate([tail, bulk]), 1, n)).astype(np.int64)
