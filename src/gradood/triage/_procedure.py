"""Which items are called unknown at a false discovery rate, from their conformal p-values.

Benjamini–Hochberg [benjamini1995fdr]: of m ascending p-values, the k smallest are called
unknown, k the largest with ``p_(k) ≤ q k / m``. Conformal p-values of one calibration set depend on
one another; where all are compared with the same scores, the dependence is positive, and the false
discovery rate is at most q times the share of known items [bates2023conformal]. It is an average
over calibration sets and streams, not a bound for this one. P-values compared within predicted
classes are not covered by that proof; for them, q is divided by ``Σ 1/k`` (Benjamini–Yekutieli),
which holds under any dependence.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from gradood._io.arguments import described, plain, real
from gradood.errors import ConfigError, DataError

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

    Raises:
        DataError: the p-values are no row of numbers from 0 to 1.
        ConfigError: a rate is no number from 0 to 1.

    >>> steps(np.array([0.01, 0.02, 0.2, 0.9]), (0.05,))
    (Step(rate=0.05, count=2, largest=0.02),)
    """
    ordered = _sorted(p_values)
    given: Any = rates
    if isinstance(given, str) or not isinstance(given, Iterable):
        raise ConfigError(f"rates={described(given)}; expected some, such as (0.05, 0.1).")
    rates = tuple(map(plain, given))
    for rate in rates:
        number = real(rate)
        if number is None or not 0 <= number <= 1:
            raise ConfigError(f"rates holds {described(rate)}; expected numbers from 0 to 1.")
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


def _sorted(p_values: np.ndarray) -> np.ndarray:
    """Ascending, once they are seen to be p-values."""
    try:
        found = np.asarray(p_values, np.float64)
    except (TypeError, ValueError) as error:
        raise DataError(f"p_values are no numbers: {error}.") from error
    if found.ndim != 1 or not bool(((found >= 0) & (found <= 1)).all()):
        raise DataError(
            f"p_values of shape {found.shape} are no row of numbers from 0 to 1; give those of "
            "the items that were scored, items.p_value[items.tested]."
        )
    return np.sort(found)
