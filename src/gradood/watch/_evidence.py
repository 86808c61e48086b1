"""Capital of bets against a stream: a test that may be looked at any time, and a detector."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from gradood.watch._bets import RISING, bet_weights, later_capital

__all__ = ["Evidence", "advance", "totals"]

Capital = np.ndarray[Any, np.dtype[np.float64]]

_MOST = 1e200
"""Capital beyond is given away, which keeps every bound."""


@dataclass(frozen=True, eq=False, slots=True)
class Evidence:
    """Capital of all bets after some steps.

    Attributes:
        capital: (2, B): A of the test ("ever") and R of the detector ("rate").
        began: (B,) int64: the last step at which a bet's R was below 1, after which its evidence
            began.
    """

    capital: Capital
    began: np.ndarray[Any, np.dtype[np.int64]]

    @staticmethod
    def begin(falling: bool) -> "Evidence":
        """Before the first step.

        Args:
            falling: whether to bet on scores that fall as well.
        """
        size = len(bet_weights(falling))
        return Evidence(np.zeros((2, size)), np.zeros(size, np.int64))

    def copy(self) -> "Evidence":
        """The same, to be changed in place."""
        return Evidence(self.capital.copy(), self.began.copy())

    def restarted(self) -> "Evidence":
        """The test begun anew; the detector goes on."""
        capital = self.capital.copy()
        capital[0] = 0
        return replace(self, capital=capital)

    def leading(self, weights: Capital) -> int:
        """Number of the bet that has gained most since it began.

        Args:
            weights: (B,) of the bets.
        """
        return int((self.capital[1] * weights).argmax())

    def rising(self, weights: Capital) -> bool:
        """Whether the leading bet is on scores that rise.

        Args:
            weights: (B,) of the bets.
        """
        return self.leading(weights) < RISING


def advance(capital: Capital, factors: Capital, step: int) -> None:
    """One step of the test and of the detector, in place.

    A ← (A + w)·f with w the capital that enters at this step, and R ← (R + 1)·f.

    Args:
        capital: (2, ..., B).
        factors: (..., B) of this step.
        step: counted from 1 since the test began.
    """
    capital[0] += later_capital(step - 1) - later_capital(step)
    capital[1] += 1.0
    capital *= factors
    np.minimum(capital, _MOST, out=capital)


def totals(capital: Capital, weights: Capital, step: int) -> Capital:
    """M, which is a martingale from 1, and R, whose mean grows by 1 with each step: (2, ...).

    Args:
        capital: (2, ..., B) after the step.
        weights: (B,) of the bets.
        step: counted from 1 since the test began.
    """
    found = (capital * weights).sum(-1)
    found[0] += later_capital(step)
    return found
