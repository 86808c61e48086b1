"""Which items are called unknown at a false discovery rate, from their conformal p-values.

Benjamini–Hochberg [benjamini1995fdr]: of m ascending p-values, the k smallest are called
unknown, k the largest with ``p_(k) ≤ q k / m``. Conformal p-values of one calibration set depend on
one another; where all are compared with the same scores, the dependence is positive, and the false
discovery rate is at most q times the share of known items [bates2023conformal]. It is an average
over calibration sets and streams, not a bound for this one. P-values compared within predicted
classes are not covered by that proof; for them, q is divided by ``Σ 1/k`` (Benjamini–Yekutieli),
which holds under any dependence.
"""

from dataclasses import dataclass

import numpy as np

__all__ = ["RATES", "Step", "steps"]

RATES = (
    *(0.001, 0.002, 0.005, 0.01, 0.02, 0.03, 0.04, 0.05, 0.06, 0.08),
    *(0.1, 0.12, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5),
)
"""False discovery rates that can be chosen."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """What a false discovery rate comes to.

    Attributes:
        rate: the largest share of known items among those called unknown, on average.
        count: how many are called unknown.
        largest: the largest p-value among them; 0 for none.
    """

    rate: float
    count: int
    largest: float


def steps(
    p_values: np.ndarray, rates: tuple[float, ...] = RATES, *, any_dependence: bool = False
) -> tuple[Step, ...]:
    """What each rate comes to.

    Args:
        p_values: (m,) of every item that was scored, not of flagged ones alone.
        rates: false discovery rates.
        any_dependence: divide by ``Σ 1/k``, for p-values compared within predicted classes.

    >>> steps(np.array([0.01, 0.02, 0.2, 0.9]), (0.05,))
    (Step(rate=0.05, count=2, largest=0.02),)
    """
    ordered = np.sort(np.asarray(p_values, np.float64))
    count = len(ordered)
    places = np.arange(1, count + 1)
    divisor = float((1 / places).sum()) if any_dependence and count else 1.0
    found: list[Step] = []
    for rate in rates:
        below = np.flatnonzero(ordered * count * divisor <= rate * places)
        # Equal p-values are called alike, which the largest k sees to.
        k = int(below[-1]) + 1 if len(below) else 0
        found.append(Step(rate=rate, count=k, largest=float(ordered[k - 1]) if k else 0.0))
    return tuple(found)
