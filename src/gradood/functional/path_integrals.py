"""Integrals of a gradient along straight paths [sundararajan2017ig], to a stated tolerance.

The Aumann-Shapley value of coordinate d of ``f`` between two points is its displacement times
``∫₀¹ ∂f/∂x_d (start + t (stop − start)) dt``. These values sum to ``f(stop) − f(start)`` where f is
continuous; where it jumps, the sum of the jumps is missing, and is given by itself.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

__all__ = ["PathIntegral", "Values", "path_integral", "values_of"]

Values = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
"""(points (m, size), rows (m,)) → values (m,) and gradients (m, size) of each row's function."""

_NODES = 8
_DEEPEST = 40
"""Halvings of the path: a kink or jump is then known to 1e-12 of it."""
_MOST = 512
"""Panels of a row that are halved at a time; a smooth function has one, each kink one more."""
_ROUNDING = 1e-14
_BUDGET = 1 << 22
"""Numbers of points held at a time."""


@dataclass(frozen=True, eq=False, slots=True)
class PathIntegral:
    """Of each row.

    Attributes:
        gradient: (rows, size) ``∫₀¹ ∂f/∂x dt``.
        start: (rows,) f at the start.
        stop: (rows,) f at the end.
        jump: (rows,) sum of the jumps of f on the way.
        error: (rows,) sum over coordinates of the estimated errors of their values: how far each
            panel was from the sum of its halves, which are what is taken.
    """

    gradient: Tensor
    start: Tensor
    stop: Tensor
    jump: Tensor
    error: Tensor


def values_of(score: Callable[[Tensor, Tensor], Tensor]) -> Values:
    """Values and gradients by autograd.

    Args:
        score: (points (m, size), rows (m,)) → (m,), each of its own point alone.
    """

    def values(points: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
        with torch.enable_grad():
            leaf = points.detach().requires_grad_()
            found = score(leaf, rows)
            slope = torch.zeros_like(leaf)
            if found.requires_grad:
                (slope,) = torch.autograd.grad(found.sum(), leaf)
        # Where a formula has no derivative; what that leaves out is in the gap.
        return found.detach(), slope.nan_to_num(nan=0.0, posinf=0.0, neginf=0.0)

    return values


def path_integral(
    values: Values,
    start: Float[Tensor, "rows size"],
    stop: Float[Tensor, "rows size"],
    tolerance: float = 1e-9,
) -> PathIntegral:
    """The integral by Gauss-Legendre panels of eight nodes, halved until they agree.

    A panel is accepted where it agrees with its halves in every coordinate, and where each half
    agrees with the difference of f between its ends; so panels close in on kinks and jumps. What f
    differs by over the smallest panel is a jump.

    Args:
        values: of f.
        start: float64.
        stop: float64.
        tolerance: of the sum of the values' errors in one panel, relative to ``|f(1) − f(0)|``.

    Cost:
        24 evaluations for each row where f is smooth, some 1,500 for each kink or jump.
    """
    rows = len(start)
    every = torch.arange(rows, device=start.device)
    evaluate = _Evaluation(values, start, stop - start)
    zero, one = start.new_zeros(rows), start.new_ones(rows)
    first, last = evaluate.at(every, zero), evaluate.at(every, one)
    size = torch.maximum(first.abs(), last.abs())
    allowed = torch.maximum(tolerance * (last - first).abs(), _ROUNDING * size)
    total, jump, error = torch.zeros_like(start), zero.clone(), zero.clone()
    panel = _Panels(every, zero, one, first, last, evaluate.integral(every, zero, one))
    for depth in range(_DEEPEST + 1):
        halves = panel.halved(evaluate)
        left, right = halves.split()
        apart = evaluate.weighed(panel.rows, left.integral + right.integral - panel.integral)
        missing = halves.missing(evaluate)
        limit = allowed[panel.rows] + _ROUNDING * evaluate.weighed(panel.rows, panel.integral)
        worst = torch.maximum(*missing.abs().chunk(2))
        # What is no number would be halved for ever.
        done = ((apart <= limit) & (worst <= limit)) | ~(apart + worst).isfinite()
        if depth == _DEEPEST or len(panel.rows) > _MOST * rows:
            # Not worth a jump where it is rounding.
            leaps = torch.where(missing.abs() > torch.cat([limit, limit]), missing, 0.0)
            stuck = torch.cat([done, done]).logical_not()
            jump.index_add_(0, halves.rows[stuck], leaps[stuck])
            done = torch.ones_like(done)
        total.index_add_(0, panel.rows[done], (left.integral + right.integral)[done])
        error.index_add_(0, panel.rows[done], apart[done])
        if bool(done.all()):
            break
        panel = halves.chosen(torch.cat([done, done]).logical_not())
    return PathIntegral(total, first, last, jump, error)


@dataclass(frozen=True, eq=False, slots=True)
class _Evaluation:
    values: Values
    start: Tensor
    shift: Tensor

    def at(self, rows: Tensor, t: Tensor) -> Tensor:
        """(m,) f at t of each of the rows."""
        return self._values(rows, t)[0]

    def integral(self, rows: Tensor, low: Tensor, high: Tensor) -> Tensor:
        """(m, size) of the gradient, by one panel for each of the rows."""
        nodes, weights = (low.new_tensor(n) for n in np.polynomial.legendre.leggauss(_NODES))
        half = (high - low) / 2
        t = ((low + high) / 2)[:, None] + half[:, None] * nodes
        step = max(1, _BUDGET // (_NODES * max(1, self.start.shape[1])))
        parts = [self.start.new_zeros(0, self.start.shape[1])]
        for some, places in zip(rows.split(step), t.split(step), strict=True):
            slopes = self._values(some.repeat_interleave(_NODES), places.flatten())[1]
            parts.append(torch.einsum("mnd,n->md", slopes.unflatten(0, (-1, _NODES)), weights))
        return torch.cat(parts) * half[:, None]

    def weighed(self, rows: Tensor, integrals: Tensor) -> Tensor:
        """(m,) sum of the sizes of the coordinates' values."""
        return (integrals * self.shift[rows]).abs().sum(1)

    def sums(self, rows: Tensor, integrals: Tensor) -> Tensor:
        """(m,) sum of the coordinates' values."""
        return (integrals * self.shift[rows]).sum(1)

    def _values(self, rows: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        # From the nearer end, so that both ends are met to the last bit.
        near, far = self.start[rows], self.start[rows] + self.shift[rows]
        forward = near + t[:, None] * self.shift[rows]
        backward = far - (1 - t)[:, None] * self.shift[rows]
        return self.values(torch.where(t[:, None] < 0.5, forward, backward), rows)


@dataclass(frozen=True, eq=False, slots=True)
class _Panels:
    """Pieces of paths: whose, from where to where, f at both ends, and the integral by a panel."""

    rows: Tensor
    low: Tensor
    high: Tensor
    first: Tensor
    last: Tensor
    integral: Tensor

    def halved(self, evaluate: _Evaluation) -> "_Panels":
        """All first halves, then all second halves."""
        middle = (self.low + self.high) / 2
        value = evaluate.at(self.rows, middle)
        rows = torch.cat([self.rows, self.rows])
        low, high = torch.cat([self.low, middle]), torch.cat([middle, self.high])
        ends = torch.cat([self.first, value]), torch.cat([value, self.last])
        return _Panels(rows, low, high, *ends, evaluate.integral(rows, low, high))

    def missing(self, evaluate: _Evaluation) -> Tensor:
        """(m,) what f differs by between the ends, less the integral."""
        return (self.last - self.first) - evaluate.sums(self.rows, self.integral)

    def split(self) -> tuple["_Panels", "_Panels"]:
        """The first half of the pieces, and the second."""
        half = torch.arange(len(self.rows), device=self.rows.device) < len(self.rows) // 2
        return self.chosen(half), self.chosen(~half)

    def chosen(self, which: Tensor) -> "_Panels":
        """Some of the pieces."""
        parts = (self.rows, self.low, self.high, self.first, self.last, self.integral)
        return _Panels(*(part[which] for part in parts))
