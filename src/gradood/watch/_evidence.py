"""Capital of bets against a stream: a test that may be looked at any time, and a detector."""

from dataclasses import dataclass
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
        gains: (B,) cumulative sums (CUSUM) on the scale of capital: what a bet has gained since it
            last had lost. Only to say when evidence began.
        began: (B,) int64: items seen when a bet last had lost.
    """

    capital: Capital
    gains: Capital
    began: np.ndarray[Any, np.dtype[np.int64]]

    @staticmethod
    def begin(falling: bool) -> "Evidence":
        """Before the first step.

        Args:
            falling: whether to bet on scores that fall as well.
        """
        size = len(bet_weights(falling))
        return Evidence(np.zeros((2, size)), np.zeros(size), np.zeros(size, np.int64))

    def copy(self) -> "Evidence":
        """The same, to be changed in place."""
        return Evidence(self.capital.copy(), self.gains.copy(), self.began.copy())

    def restarted(self, seen: int) -> "Evidence":
        """The test begun anew; the detector goes on.

        Args:
            seen: items so far.
        """
        capital = self.capital.copy()
        capital[0] = 0
        return Evidence(capital, np.zeros_like(self.gains), np.full_like(self.began, seen))

    def date(self, factors: Capital, seen: int) -> None:
        """Note in place which bets lost.

        Args:
            factors: (B,) of a step.
            seen: items so far.
        """
        gains = np.maximum(self.gains, 1.0, out=self.gains)
        gains *= factors
        np.minimum(gains, _MOST, out=gains)
        self.began[gains < 1] = seen

    @property
    def leading(self) -> int:
        """Number of the bet that has gained most since it last had lost."""
        return int(self.gains.argmax())

    @property
    def since(self) -> int:
        """Items seen when the leading bet last had lost."""
        return int(self.began[self.leading])

    @property
    def rising(self) -> bool:
        """Whether the leading bet is on scores that rise."""
        return self.leading < RISING


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
