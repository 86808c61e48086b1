"""From one detector's score to its share of a combined statistic.

Only sums, products, quotients and square roots are used on a new score. These are rounded alike on
every machine, in every batch; exponentials and logarithms are not, and a last bit that differs
would part scores that are tied.
"""

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from gradood.errors import ConfigError, suggest

__all__ = ["Curve", "How", "known_how"]

How = Literal["fisher", "stouffer", "cauchy", "min"]

_UPPER = 0.1
_CAP = 0.95
_FAR = 1e17


def known_how(how: How) -> How:
    """The combination, if there is one of that name.

    Raises:
        ConfigError: there is none.
    """
    if how not in get_args(How):
        raise ConfigError(f"combine={how!r}; {suggest(str(how), get_args(How))}")
    return how


@dataclass(frozen=True, eq=False, slots=True)
class Curve:
    """A nondecreasing function of the score, and a strictly increasing one from its least knot up.

    At its knots it is a function of the mid-p-value p = (½ + #{>} + ½ #{=}) / (m + 1) among m
    scores; between them it is linear. Beyond the largest it goes on as if p fell by e for each
    `scale`, without ever forming p, so that it neither underflows nor saturates.

    Attributes:
        knots: (k,) float64, the distinct scores, ascending.
        values: (k,) float64, nondecreasing.
        scale: mean excess of the upper tenth of the scores over its foot; above 0.
    """

    knots: Tensor
    values: Tensor
    scale: float

    @staticmethod
    def of(scores: Tensor, how: How) -> "Curve":
        """The curve of (m ≥ 2,) finite float64 scores."""
        knots, counts = scores.unique(return_counts=True)
        above = len(scores) - torch.cumsum(counts, 0)
        p = (0.5 + above.double() + counts.double() / 2) / (len(scores) + 1)
        if how == "stouffer":
            values = -torch.special.ndtri(p)
        elif how == "cauchy":
            values = torch.tan(torch.pi * (0.5 - p.clamp(max=_CAP)))
        else:
            values = -torch.log(p)
        # The last bit of a function need not be monotone.
        return Curve(knots, values.cummax(0).values, _scale(scores.sort().values))

    def __call__(self, scores: Tensor, how: How) -> Tensor:
        """Its values: (N,) float64 for (N,) float64 without NaN; finite scores stay finite."""
        first, last = float(self.knots[0]), float(self.knots[-1])
        excess = ((scores - last) / self.scale).clamp(0, _FAR)
        inside = scores.clamp(first, last)
        right = torch.searchsorted(self.knots, inside).clamp(min=1)
        right = right.clamp(max=len(self.knots) - 1)
        left = (right - 1).clamp(min=0)
        gap = self.knots[right] - self.knots[left]
        # Not a number, and so not below 1: one knot only, or a gap beyond the range of float64.
        share = (inside - self.knots[left]) / gap
        low, high = self.values[left], self.values[right]
        between = torch.where(share < 1, torch.minimum(low + share * (high - low), high), high)
        return torch.where(scores > last, self._beyond(excess, how), between)

    @property
    def sound(self) -> bool:
        """Whether this is a curve, where it was read from a record."""
        knots, values = self.knots, self.values
        return (
            knots.dtype == values.dtype == torch.float64
            and knots.ndim == 1
            and knots.shape == values.shape
            and len(knots) > 0
            and bool(knots.isfinite().all() and values.isfinite().all())
            and bool((knots[1:] > knots[:-1]).all() and (values[1:] >= values[:-1]).all())
            and isinstance(self.scale, float)
            and 0 < self.scale < float("inf")
        )

    def _beyond(self, excess: Tensor, how: How) -> Tensor:
        """Values beyond the last knot, for p smaller by e to the `excess` than there."""
        end = self.values[-1]
        if how == "stouffer":  # −log p grows as half the square of the normal deviate
            return (end * end + 2 * excess).sqrt()
        if how == "cauchy":  # 1/(π p); eˣ as (1 + x/16)¹⁶, which has no overflow in sight
            growth = 1 + excess / 16
            for _ in range(4):
                growth = growth * growth
            return end + end.clamp(min=1) * (growth - 1)
        return end + excess


def _scale(ordered: Tensor) -> float:
    """How far apart the largest scores are; the first measure that ties do not make zero."""
    size = len(ordered)
    foot = min(size - 1, int(size * (1 - _UPPER)))
    largest, middle, least = (float(ordered[i]) for i in (-1, size // 2, 0))
    excess = float((ordered[foot:] - ordered[foot - 1]).mean())
    # Differences of the size of rounding errors are ties, too.
    floor = abs(largest) * 1e-12
    choices = (excess, largest - middle, largest - least, abs(largest))
    return next((x for x in choices if floor < x < float("inf")), 1.0)
