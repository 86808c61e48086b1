"""What false-alarm rate is promised, how many samples that takes, and which of them decides."""

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import torch

from gradood._io.arguments import plain, real
from gradood.errors import ConfigError

__all__ = ["Promise", "deciding_rank", "required"]


@dataclass(frozen=True, slots=True)
class Promise:
    """A bound on the share of in-distribution inputs that are flagged.

    Attributes:
        fpr: α, the false-alarm rate allowed, between 0 and 1.
        mode: ``"marginal"``: P(flagged) ≤ α, over calibration data and input together, which is
            what conformal p-values give [bates2023conformal]. One calibration set may be unlucky
            and give a higher rate. ``"pac"``: with probability `confidence` over the calibration
            data, the rate of this very calibration is ≤ α.
        confidence: of the second; the first does not use it.

    Raises:
        ConfigError: a value is out of range.
    """

    fpr: float = 0.05
    mode: Literal["marginal", "pac"] = "marginal"
    confidence: float = 0.95

    def __post_init__(self) -> None:
        for name in ("fpr", "confidence"):
            given = plain(getattr(self, name))
            value = real(given)
            if value is None or not 0 < value < 1:
                percent = ""
                if value is not None and 1 <= value < 100:
                    percent = f" {value:g} % is {value / 100:g}."
                raise ConfigError(f"{name}={given!r}; expected a number between 0 and 1.{percent}")
            object.__setattr__(self, name, value)
        if self.mode not in ("marginal", "pac"):
            raise ConfigError(f"mode={self.mode!r}; expected 'marginal' or 'pac'.")

    def __str__(self) -> str:
        rate = f"a false-alarm rate of at most {100 * self.fpr:g} %"
        return (
            rate if self.mode == "marginal" else f"{rate} at {100 * self.confidence:g} % confidence"
        )


@lru_cache
def required(promise: Promise) -> int:
    """The smallest number of calibration samples with which the promise can be kept.

    With fewer, even a threshold at the largest calibration score would break it. Marginal: the
    smallest n with 1/(n + 1) ≤ α. PAC: the smallest n with (1 − α)ⁿ ≤ 1 − confidence.

    Example:
        >>> [required(Promise(fpr, "pac")) for fpr in (0.05, 0.01, 0.001)]
        [59, 299, 2995]
        >>> [required(Promise(fpr)) for fpr in (0.05, 0.01, 0.001)]
        [19, 99, 999]
    """
    if promise.mode == "marginal":
        guess = math.ceil(1 / promise.fpr) - 1
    else:
        guess = math.ceil(math.log(1 - promise.confidence) / math.log1p(-promise.fpr))
    # The division was rounded: look next to it.
    return next(n for n in range(max(1, guess - 1), guess + 3) if deciding_rank(n, promise) > 0)


@lru_cache(1024)
def deciding_rank(samples: int, promise: Promise) -> int:
    """Which calibration score is the threshold, counted from the largest = 1; 0 if none will do.

    An input is flagged if its score is strictly above the k-th largest of n. Marginal: the largest
    k with k/(n + 1) ≤ α, which is the same as flagging p ≤ α. PAC: the largest k with

        P(Bin(n, α) < k) ≤ 1 − confidence,

    because the rate exceeds α only if fewer than k scores reach the point above which α of all
    inputs lie. Ties only lower the rate, as what equals the threshold is not flagged.

    Args:
        samples: n.
        promise: what is to hold.

    Cost:
        O(√n). The tail is summed in float64, to a relative error below 1e-9 up to n = 10⁷.
    """
    n, fpr = samples, promise.fpr
    if promise.mode == "marginal":
        near = math.floor(fpr * (n + 1)) + 1
        # Compared as `Calibration.p_values` rounds it, so that p ≤ α and the decision agree.
        return next((k for k in (near, near - 1, near - 2) if 0 < k <= n and k / (n + 1) <= fpr), 0)
    # All but nothing of Bin(n, α) lies within 40 deviations, so that weights known up to a factor
    # are enough: their sum is 1. That is more exact than log-gammas, whose values are of size n.
    reach = 40 * (math.sqrt(n * fpr * (1 - fpr)) + 1)
    first, last = max(0, int(n * fpr - reach)), min(n, math.ceil(n * fpr + reach))
    counts = torch.arange(first, last + 1, dtype=torch.float64)
    steps = torch.log((n - counts + 1) / counts) + math.log(fpr) - math.log1p(-fpr)
    steps[0] = 0
    logs = torch.cumsum(steps, 0)
    weights = (logs - logs.max()).exp()
    below = torch.cumsum(weights, 0) / weights.sum()
    count = int((below[: n - first] <= 1 - promise.confidence).sum())
    return first + count if count else 0
