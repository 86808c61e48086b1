"""Weibull distributions fitted to the largest of some distances, as in meta-recognition."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

__all__ = ["TRANSLATION", "Weibull", "fit_weibull"]

TRANSLATION = 1e4
"""Added to what exceeds the smallest of the tail, so that all fitted values are positive: by libMR
as released with OpenMax; libmr 0.1.9, which OpenOOD installs, adds 1 and so fits another shape."""
_STEPS = 80


@dataclass(frozen=True, eq=False, slots=True)
class Weibull:
    """Distributions of ``log1p((d − start) / translation)``, one per row.

    Attributes:
        start: (rows,) smallest distance of the tail.
        shape: (rows,).
        log_scale: (rows,) log of scale / translation.
        translation: see `TRANSLATION`.
    """

    start: Tensor
    shape: Tensor
    log_scale: Tensor
    translation: float = TRANSLATION

    def cdf(self, distances: Float[Tensor, "batch rows"]) -> Float[Tensor, "batch rows"]:
        """``1 − exp(−((d − start + t) / scale)^shape)``; zero below the support."""
        # log1p(−1) is −inf, whose cdf is 0.
        excess = ((distances - self.start) / self.translation).clamp_min(-1.0)
        return -torch.expm1(-torch.exp(self.shape * (torch.log1p(excess) - self.log_scale)))


def fit_weibull(tails: Float[Tensor, "rows tail"], translation: float = TRANSLATION) -> Weibull:
    """Maximum-likelihood Weibull distribution of each row, shifted to begin at `translation`.

    The shape k is the root of ``Σ x^k log x / Σ x^k − mean(log x) − 1/k``, which increases in k and
    lies between 1/m and (n/e + 1)/m, where m is how far the largest of n log x exceeds their mean;
    it is found by bisection, in logarithms so that no power overflows.

    Args:
        tails: distances, not all equal in any row.
        translation: t; each row is fitted to ``d − min d + t``.
    """
    start = tails.amin(1)
    logs = torch.log1p((tails - start[:, None]) / translation)
    top = logs.amax(1, keepdim=True)
    logs = logs - top
    mean = logs.mean(1)
    low, high = -1.0 / mean, -(tails.shape[1] / 2.718281828459045 + 1.0) / mean
    for _ in range(_STEPS):
        shape = (low * high).sqrt()
        weights = torch.softmax(shape[:, None] * logs, 1)
        below = (weights * logs).sum(1) - mean < 1.0 / shape
        low, high = torch.where(below, shape, low), torch.where(below, high, shape)
    shape = (low * high).sqrt()
    log_mean = (shape[:, None] * logs).exp().mean(1).log()
    return Weibull(start, shape, top[:, 0] + log_mean / shape, translation)
