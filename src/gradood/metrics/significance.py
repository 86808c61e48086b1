"""Which differences between methods are more than chance."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from gradood.errors import ConfigError, UnknownNameError, suggest
from gradood.metrics.analysis import Analysis
from gradood.metrics.confidence import reach_of

__all__ = ["chance", "comparisons", "differences", "holm"]

# Below this a difference is rounding: of figures between 0 and 1, from sums of a million terms.
_ROUNDING = 1e-11


def holm(p: Sequence[float]) -> list[float]:
    """P-values of a family, adjusted so that all those ≤ α hold together with chance 1 − α.

    Holm's step-down method [holm1979multiple]: with p_(1) ≤ … ≤ p_(m), the i-th becomes
    max over j ≤ i of min(1, (m − j + 1) p_(j)).

    Args:
        p: p-values, in any order and of any dependence.

    Returns:
        As many, in the same order.

    Example:
        >>> [round(p, 3) for p in holm([0.607, 0.019, 0.016])]
        [0.607, 0.048, 0.048]
    """
    values = np.asarray(p, dtype=np.float64)
    order = np.argsort(values, kind="stable")
    factors = np.arange(values.size, 0, -1)
    adjusted = np.empty(values.size)
    adjusted[order] = np.minimum(1, np.maximum.accumulate(factors * values[order]))
    return adjusted.tolist()


def chance(difference: float, error: float) -> float:
    """Two-sided p-value of a difference with a normal error of known size.

    Args:
        difference: found.
        error: its standard error; where it is 0, nothing is known and the answer is 1.
    """
    if abs(difference) <= _ROUNDING or error <= 0:
        return 1.0
    return math.erfc(abs(difference) / error / math.sqrt(2))


def differences(
    analysis: Analysis, metric: str, sets: Sequence[str], pairs: Sequence[tuple[str, str]]
) -> list[dict[str, Any]]:
    """Paired differences of the mean of a metric over sets.

    Of a pair (a, b) the variance is that of a, and that of b, less twice their covariance: one
    covariance matrix of all methods serves all pairs. It is DeLong's for AUROC
    [delong1988auroc], and of the stratified, paired bootstrap for the others. P-values are normal.

    Args:
        analysis: of the scores.
        metric: as in `gradood.metrics.Summary`.
        sets: names, at least one.
        pairs: names of methods.

    Returns:
        Per pair: ``a``, ``b``, ``difference`` (a − b), ``interval``, ``p``.

    Raises:
        UnknownNameError: no such metric or method.
    """
    at = {method: k for k, method in enumerate(analysis.scored.methods)}
    for name in {name for pair in pairs for name in pair} - at.keys():
        raise UnknownNameError(f"no scores of {name!r}; {suggest(name, at)}")
    found = analysis.estimates(metric, sets)
    reach = reach_of(analysis.level)
    rows: list[dict[str, Any]] = []
    for a, b in pairs:
        i, j = at[a], at[b]
        difference = float(found.values[i] - found.values[j])
        variance = found.covariance[i, i] + found.covariance[j, j] - 2 * found.covariance[i, j]
        error = math.sqrt(max(0.0, float(variance)))
        p = chance(difference, error)
        low, high = max(-1.0, difference - reach * error), min(1.0, difference + reach * error)
        rows.append({"a": a, "b": b, "difference": difference, "interval": [low, high], "p": p})
    return rows


def comparisons(
    analysis: Analysis,
    metrics: Sequence[str] = ("auroc", "fpr_ood_at_tpr_id95", "fpr_id_at_tpr_ood95"),
    *,
    groups: Sequence[str] | None = None,
    against: Sequence[str] | None = None,
) -> list[dict[str, Any]]:
    """All pairs of methods, or all methods against some, by metric and group of sets.

    A family, over which Holm's correction goes, is the pairs of one metric and group.

    Args:
        analysis: of the scores.
        metrics: as in `gradood.metrics.Summary`.
        groups: among ``all``, ``near`` and ``far``; None for those there are.
        against: methods that the others are compared with; None for all pairs.

    Returns:
        Rows of ``metric``, ``group``, ``a``, ``b``, ``difference`` (a − b), ``interval`` (of this
        pair alone), ``p``, ``p_holm`` and ``significant``.

    Raises:
        UnknownNameError: no such metric or method.
        ConfigError: a group that has no sets.
    """
    members = analysis.scored.members()
    for group in groups or ():
        if group not in members:
            raise ConfigError(f"group {group!r} has no sets; {suggest(group, members)}")
    names = analysis.scored.methods
    if against is None:
        pairs = [(a, b) for i, a in enumerate(names) for b in names[i + 1 :]]
    else:
        pairs = [
            (a, b) for i, b in enumerate(against) for a in names if a != b and a not in against[:i]
        ]
    rows: list[dict[str, Any]] = []
    for metric in metrics:
        for group in members if groups is None else groups:
            family = differences(analysis, metric, members[group], pairs)
            adjusted = holm([row["p"] for row in family])
            for row, p in zip(family, adjusted, strict=True):
                decided = {"p_holm": p, "significant": p < 1 - analysis.level}
                rows.append({"metric": metric, "group": group, **row, **decided})
    return rows
