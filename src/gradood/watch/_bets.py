"""Bets against uniform p-values, and the capital that each martingale starts with."""

import math
from typing import Any

import numpy as np

__all__ = ["RISING", "bet_weights", "betting_factors", "later_capital"]

_TAILS = (0.002, 0.01, 0.05, 0.2)
_STAKES = (0.03, 0.12, 0.5)
_LOW = ((0.05, 0.1), (0.3, 0.2))
_FALLING_SHARE = 0.2
_LEAST = 2.0**-60

_CUTS = np.repeat(_TAILS, len(_STAKES))
_GAINS = np.tile(_STAKES, len(_TAILS))
_LOW_CUTS = np.array([1 - a for a, _ in _LOW])
_LOW_KEPT, _LOW_WON = (
    np.array(list(x)) for x in zip(*((1 - e, e / a) for a, e in _LOW), strict=True)
)
_KEPT, _WON = 1 - _GAINS, _GAINS / _CUTS
RISING = len(_CUTS) + 2
"""How many bets gain where scores rise; those after them gain where scores fall."""


def bet_weights(falling: bool) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Share of the capital of each bet, (B,): 14 against rising scores, and 2 against falling ones.

    Args:
        falling: whether to bet on scores that fall as well.
    """
    if not falling:
        return np.full(RISING, 1 / RISING)
    rest = [_FALLING_SHARE / len(_LOW)] * len(_LOW)
    return np.array([(1 - _FALLING_SHARE) / RISING] * RISING + rest)


def betting_factors(p: Any, falling: bool) -> np.ndarray[Any, np.dtype[np.float64]]:
    """What each bet multiplies its capital by, (..., B); its mean over uniform p is 1.

    Against rising scores 1 − e + (e/a)·1{p ≤ a}, ¾ p^(−1/4) and ⅞ p^(−1/8); none increases with p,
    so that a p-value that is too large is no gain. Against falling scores
    1 − e + (e/a)·1{p ≥ 1 − a}. Sums, products and square roots alone: the same bits everywhere.

    Args:
        p: (...) from 0 to 1.
        falling: as for `bet_weights`.
    """
    p = np.asarray(p, np.float64)[..., None]
    roots = np.sqrt(np.sqrt(np.maximum(p, _LEAST)))
    found = [_KEPT + _WON * (p <= _CUTS), 0.75 / roots, 0.875 / np.sqrt(roots)]
    if falling:
        found.append(_LOW_KEPT + _LOW_WON * (p >= _LOW_CUTS))
    return np.concatenate(found, -1)


def later_capital(step: int) -> float:
    """Share of the capital that is not at stake before or at a step, counted from 1.

    Half is at stake from the first step on. Of the other half, ln 2 / ln(t + 2) is kept for changes
    after step t: a change at any time meets enough of it, as it falls so slowly.

    >>> later_capital(0), later_capital(1) < 0.5
    (1.0, True)
    """
    return 1.0 if step == 0 else 0.5 * math.log(2) / math.log(step + 2)
