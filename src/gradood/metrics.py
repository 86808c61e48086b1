"""How well scores tell out-of-distribution from in-distribution samples; exact under ties.

Every function takes the scores of the two sets, higher = more out-of-distribution. Only their order
matters, so infinite scores are ordinary extremes. NaN has no place in an order and is refused.

Two conventions exist for "FPR95", and their names say which is which. ID as the positive class is
the convention of most papers; OOD as the positive class is that of OpenOOD [zhang2023openood].

Cost: one sort of both sets, O(n log n), on the CPU in float64.
"""

import math
from collections.abc import Sequence
from dataclasses import astuple, dataclass, fields
from statistics import NormalDist
from typing import Any

import numpy as np
from torch import Tensor

from gradood.errors import DataError

__all__ = [
    "Scores",
    "Summary",
    "aupr_in",
    "aupr_out",
    "auroc",
    "fpr_id_at_tpr_ood95",
    "fpr_ood_at_tpr_id95",
    "intervals",
    "summary",
]

Scores = Tensor | np.ndarray | Sequence[Any]
"""One-dimensional real numbers: a tensor on any device, an array, or a list."""


@dataclass(frozen=True, slots=True)
class Summary:
    """The five metrics, each from 0 to 1.

    Attributes:
        auroc: see `auroc`.
        aupr_in: see `aupr_in`.
        aupr_out: see `aupr_out`.
        fpr_ood_at_tpr_id95: see `fpr_ood_at_tpr_id95`.
        fpr_id_at_tpr_ood95: see `fpr_id_at_tpr_ood95`.
    """

    auroc: float
    aupr_in: float
    aupr_out: float
    fpr_ood_at_tpr_id95: float
    fpr_id_at_tpr_ood95: float


def summary(id_scores: Scores, ood_scores: Scores) -> Summary:
    """All five metrics from one sort.

    Args:
        id_scores: (n,) of in-distribution samples.
        ood_scores: (m,) of out-of-distribution samples.

    Raises:
        DataError: a set is empty, not one-dimensional, not of real numbers, or holds NaN.

    Example:
        >>> summary([0.1, 0.2, 0.3], [0.3, 0.4]).auroc
        0.9166666666666666
    """
    return _Counts.of(id_scores, ood_scores).summary()


def intervals(
    id_scores: Scores,
    ood_scores: Scores,
    *,
    level: float = 0.95,
    draws: int = 400,
    seed: int = 0,
) -> dict[str, tuple[float, float]]:
    """Confidence intervals of the five metrics, for other samples of the same two populations.

    AUROC: DeLong's variance on the logit scale [delong1988auroc]. The others: percentiles of a
    bootstrap that draws each set from itself, thresholds included.

    Args:
        id_scores: (n,) of in-distribution samples.
        ood_scores: (m,) of out-of-distribution samples.
        level: coverage aimed at.
        draws: bootstrap repetitions.
        seed: of the draws.

    Returns:
        Metric name, as in `Summary`, → (low, high).

    Raises:
        DataError: as `summary`.

    Cost:
        `draws` passes over the sorted scores: about 2 ms each for 20,000 samples.

    Example:
        >>> low, high = intervals([0.1, 0.2, 0.3, 0.4], [0.3, 0.4, 0.5])["auroc"]
        >>> low < 0.83 < high
        True
    """
    counts = _Counts.of(id_scores, ood_scores)
    rng = np.random.default_rng(seed)
    drawn = [astuple(counts.drawn(rng).summary()) for _ in range(draws)]
    tail = 50 * (1 - level)
    low, high = np.percentile(drawn, [tail, 100 - tail], axis=0).tolist()
    found = {f.name: (low[i], high[i]) for i, f in enumerate(fields(Summary))}
    return {**found, "auroc": counts.auroc_interval(level)}


def auroc(id_scores: Scores, ood_scores: Scores) -> float:
    """Area under the ROC curve: the chance that an OOD sample scores above an ID sample.

    Ties count half (the Mann-Whitney statistic); 0.5 is chance. The same whichever class is called
    positive.

    Args:
        id_scores: (n,) of in-distribution samples.
        ood_scores: (m,) of out-of-distribution samples.

    Raises:
        DataError: a set is empty, not one-dimensional, not of real numbers, or holds NaN.
    """
    return _Counts.of(id_scores, ood_scores).auroc()


def aupr_in(id_scores: Scores, ood_scores: Scores) -> float:
    """Average precision with ID as the positive class, ranked from the lowest score up.

    Depends on the ratio of the two sets' sizes; chance is the share of ID samples. The sum of
    precision times recall gained, one step per distinct score, without interpolation.

    Args:
        id_scores: (n,) of in-distribution samples.
        ood_scores: (m,) of out-of-distribution samples.

    Raises:
        DataError: a set is empty, not one-dimensional, not of real numbers, or holds NaN.
    """
    return _Counts.of(id_scores, ood_scores).aupr_in()


def aupr_out(id_scores: Scores, ood_scores: Scores) -> float:
    """Average precision with OOD as the positive class, ranked from the highest score down.

    Depends on the ratio of the two sets' sizes; chance is the share of OOD samples. The sum of
    precision times recall gained, one step per distinct score, without interpolation.

    Args:
        id_scores: (n,) of in-distribution samples.
        ood_scores: (m,) of out-of-distribution samples.

    Raises:
        DataError: a set is empty, not one-dimensional, not of real numbers, or holds NaN.
    """
    return _Counts.of(id_scores, ood_scores).aupr_out()


def fpr_ood_at_tpr_id95(id_scores: Scores, ood_scores: Scores) -> float:
    """Share of OOD samples taken for ID when 95 % of the ID samples are kept (ID positive).

    The threshold is the smallest score t for which at least 95 % of the ID samples have a score
    ≤ t; the answer is the share of OOD samples with a score ≤ t.

    Args:
        id_scores: (n,) of in-distribution samples.
        ood_scores: (m,) of out-of-distribution samples.

    Raises:
        DataError: a set is empty, not one-dimensional, not of real numbers, or holds NaN.
    """
    return _Counts.of(id_scores, ood_scores).fpr_ood()


def fpr_id_at_tpr_ood95(id_scores: Scores, ood_scores: Scores) -> float:
    """Share of ID samples flagged when 95 % of the OOD samples are detected (OOD positive).

    The threshold is the largest score t for which at least 95 % of the OOD samples have a score
    ≥ t; the answer is the share of ID samples with a score ≥ t.

    Args:
        id_scores: (n,) of in-distribution samples.
        ood_scores: (m,) of out-of-distribution samples.

    Raises:
        DataError: a set is empty, not one-dimensional, not of real numbers, or holds NaN.
    """
    return _Counts.of(id_scores, ood_scores).fpr_id()


@dataclass(frozen=True, eq=False, slots=True)
class _Counts:
    """Samples at each distinct score, ascending: (k,) int64. All that the metrics depend on."""

    inside: np.ndarray
    outside: np.ndarray

    @staticmethod
    def of(id_scores: Scores, ood_scores: Scores) -> "_Counts":
        low = _checked(id_scores, "id_scores")
        high = _checked(ood_scores, "ood_scores")
        levels, at = np.unique(np.concatenate([low, high]), return_inverse=True)
        inside = np.bincount(at[: low.size], minlength=levels.size)
        return _Counts(inside, np.bincount(at[low.size :], minlength=levels.size))

    def summary(self) -> Summary:
        return Summary(
            auroc=self.auroc(),
            aupr_in=self.aupr_in(),
            aupr_out=self.aupr_out(),
            fpr_ood_at_tpr_id95=self.fpr_ood(),
            fpr_id_at_tpr_ood95=self.fpr_id(),
        )

    def auroc(self) -> float:
        # Twice the number of pairs in the right order, in integers: one rounding, at the division.
        twice = (self.outside * (2 * np.cumsum(self.inside) - self.inside)).sum()
        return float(twice / (2 * self.inside.sum() * self.outside.sum()))

    def auroc_interval(self, level: float) -> tuple[float, float]:
        area, n, m = self.auroc(), int(self.inside.sum()), int(self.outside.sum())
        # Of each ID sample the share of OOD above it, and of each OOD sample that of ID below.
        above = 1 - (np.cumsum(self.outside) - self.outside / 2) / m
        below = (np.cumsum(self.inside) - self.inside / 2) / n
        variance = (self.inside * (above - area) ** 2).sum() / (n * max(1, n - 1))
        variance += (self.outside * (below - area) ** 2).sum() / (m * max(1, m - 1))
        if not 0 < area < 1 or variance <= 0:
            return area, area
        center, spread = math.log(area / (1 - area)), math.sqrt(variance) / (area * (1 - area))
        reach = NormalDist().inv_cdf(0.5 + level / 2) * spread
        return _expit(center - reach), _expit(center + reach)

    def drawn(self, rng: np.random.Generator) -> "_Counts":
        return _Counts(
            rng.multinomial(self.inside.sum(), self.inside / self.inside.sum()),
            rng.multinomial(self.outside.sum(), self.outside / self.outside.sum()),
        )

    def aupr_in(self) -> float:
        return _average_precision(self.inside, self.outside)

    def aupr_out(self) -> float:
        return _average_precision(self.outside[::-1], self.inside[::-1])

    def fpr_ood(self) -> float:
        return _share_kept(self.inside, self.outside)

    def fpr_id(self) -> float:
        return _share_kept(self.outside[::-1], self.inside[::-1])


def _expit(value: float) -> float:
    return 1 / (1 + math.exp(-value)) if value > -700 else 0.0


def _average_precision(positive: np.ndarray, negative: np.ndarray) -> float:
    found = np.cumsum(positive)
    # A redrawn set may leave levels before the first sample empty.
    precision = found / np.maximum(1, found + np.cumsum(negative))
    return float((positive * precision).sum() / found[-1])


def _share_kept(positive: np.ndarray, negative: np.ndarray) -> float:
    kept = np.cumsum(positive)
    # In integers, as 0.95 has no exact float: 100 · kept ≥ 95 · n.
    last = int(np.argmax(100 * kept >= 95 * kept[-1]))
    return float(negative[: last + 1].sum() / negative.sum())


def _checked(scores: Scores, name: str) -> np.ndarray:
    """The scores in float64, on the CPU, and usable."""
    if isinstance(scores, Tensor):
        # To the CPU first, as some devices have no float64; in torch, as NumPy has no bfloat16.
        scores = scores.detach().cpu()
        scores = scores if scores.is_complex() else scores.double()
    try:
        given = np.asarray(scores)
        values = given.astype(
            np.float64, casting="unsafe" if given.dtype == object else "same_kind"
        )
    except (TypeError, ValueError) as error:
        raise DataError(
            f"{name} cannot be read as real numbers ({error}); expected a one-dimensional tensor, "
            "array or list of scores."
        ) from error
    if values.ndim != 1:
        raise DataError(
            f"{name} has shape {values.shape}; expected one score per sample, (n,). "
            "Pass one detector's scores, flattened."
        )
    if not values.size:
        raise DataError(f"{name} is empty; expected at least one score.")
    bad = np.flatnonzero(np.isnan(values))
    if bad.size:
        first = ", ".join(str(index) for index in bad[:5]) + (", …" if bad.size > 5 else "")
        raise DataError(
            f"{name} holds {bad.size} NaN among {values.size} scores (at {first}); expected "
            "numbers, infinite ones included. Score what cannot be scored as +inf."
        )
    return values
