"""Ranks of methods over data sets with critical differences, and spreads over seeds."""

import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from gradood.errors import ConfigError, DataError
from gradood.metrics.analysis import METRICS
from gradood.metrics.significance import holm

__all__ = ["critical_difference", "over_seeds", "ranking"]


def ranking(
    values: np.ndarray | Sequence[Sequence[float]],
    names: Sequence[str],
    *,
    metric: str = "auroc",
    alpha: float = 0.05,
) -> dict[str, Any]:
    """Mean ranks with the tests of [demsar2006comparisons]; rank 1 is best, ties share.

    Friedman's test asks whether the methods differ at all. Nemenyi's critical difference is what
    two mean ranks must be apart for these two to differ; a clique is a longest run of methods in
    order of rank of which no two do. The same by Wilcoxon's signed-rank test of every pair with
    Holm's correction, which does not depend on what other methods there are; of fewer than six
    blocks it finds nothing.

    A block is a data set, or a data set and a run. With few of them and many methods hardly
    anything differs: `comparisons`, on the samples themselves, sees far more; this asks instead
    what would hold on other data sets.

    Args:
        values: (methods, blocks) of a metric.
        names: of the methods.
        metric: as in `gradood.metrics.Summary`; of a false positive rate less is better.
        alpha: chance of finding a difference where there is none.

    Returns:
        ``metric``, ``blocks``, ``mean_rank`` (name → rank, best first), ``friedman_p``,
        ``critical_difference``, ``cliques``, and ``wilcoxon_cliques``. Of one method or one block
        there is nothing to test: p is 1 and all are one clique.

    Raises:
        ConfigError: `alpha` is out of range.
        DataError: not one finite number per method and block, or a name twice.
    """
    from scipy import stats

    table = _table(values, names, alpha)
    better = -table if not metric.startswith("fpr") else table
    ranks = stats.rankdata(better, axis=0).mean(axis=1)
    order = np.argsort(ranks, kind="stable")
    critical = critical_difference(*table.shape, alpha=alpha)
    differ = _wilcoxon(table, alpha)
    ordered: list[str] = [names[int(i)] for i in order]

    def named(differ: Callable[[int, int], bool]) -> list[list[str]]:
        return [[ordered[i] for i in clique] for clique in _cliques(order, differ)]

    return {
        "metric": metric,
        "blocks": table.shape[1],
        "mean_rank": {name: float(ranks[i]) for name, i in zip(ordered, order, strict=True)},
        "friedman_p": _friedman(table),
        "critical_difference": critical,
        "cliques": named(lambda i, j: abs(ranks[i] - ranks[j]) >= critical),
        "wilcoxon_cliques": named(lambda i, j: bool(differ[i, j])),
    }


def critical_difference(methods: int, blocks: int, *, alpha: float = 0.05) -> float:
    """Nemenyi's, of mean ranks: q √(k (k + 1) / (6 N)).

    q is the 1 − α quantile of the range of k standard normal variables, divided by √2.

    Args:
        methods: k; of fewer than two it is 0.
        blocks: N.
        alpha: chance of finding a difference where there is none.
    """
    if methods < 2:
        return 0.0
    from scipy import stats

    q = float(stats.studentized_range.ppf(1 - alpha, methods, np.inf)) / 2**0.5
    return q * (methods * (methods + 1) / (6 * blocks)) ** 0.5


def over_seeds(runs: Iterable[Sequence[Mapping[str, Any]]]) -> dict[str, Any]:
    """Mean and standard deviation over runs.

    Args:
        runs: of each run the rows of `Analysis.means`.

    Returns:
        Method → group → metric → ``mean``, ``sd`` (with n − 1; None of one run), ``n``: the runs
        that have this method.

    Example:
        >>> rows = [[{"method": "msp", "group": "all", "auroc": a}] for a in (0.5, 0.75)]
        >>> over_seeds(rows)["msp"]["all"]["auroc"]
        {'mean': 0.625, 'sd': 0.1767766952966369, 'n': 2}
    """
    values: dict[str, dict[str, dict[str, list[float]]]] = {}
    for rows in runs:
        for row in rows:
            groups = values.setdefault(row["method"], {})
            metrics = groups.setdefault(row["group"], {})
            for metric in METRICS:
                if metric in row:
                    metrics.setdefault(metric, []).append(float(row[metric]))
    return {
        method: {
            group: {metric: _spread(given) for metric, given in metrics.items()}
            for group, metrics in groups.items()
        }
        for method, groups in values.items()
    }


def _table(
    values: np.ndarray | Sequence[Sequence[float]], names: Sequence[str], alpha: float
) -> np.ndarray:
    """(methods, blocks) float64; checks the arguments of `ranking`."""
    if not 0 < alpha < 1:
        raise ConfigError(f"alpha={alpha!r}; expected a share between 0 and 1, such as 0.05.")
    table = np.asarray(values, dtype=np.float64)
    if table.ndim != 2 or len(table) != len(names) or not table.size:
        raise DataError(
            f"values of shape {table.shape} for {len(names)} names; expected one row per method, "
            "one column per block."
        )
    if len(set(names)) < len(names):
        raise DataError("a method was named twice; expected each once.")
    if not np.isfinite(table).all():
        raise DataError("a value is not finite; leave out methods that lack a block.")
    return table


def _friedman(table: np.ndarray) -> float:
    """Friedman's p-value with correction for ties, from the χ² distribution."""
    from scipy import stats

    methods, blocks = table.shape
    if methods < 2 or blocks < 2 or (table == table[0]).all():
        return 1.0
    ranks = stats.rankdata(table, axis=0)
    between = blocks * ((ranks.mean(axis=1) - (methods + 1) / 2) ** 2).sum()
    within = ((ranks - (methods + 1) / 2) ** 2).sum() / (blocks * (methods - 1))
    return float(stats.chi2.sf(between / within, methods - 1))


def _wilcoxon(table: np.ndarray, alpha: float) -> np.ndarray:
    """(methods, methods) bool: differ by the signed-rank test, with Holm's correction."""
    from scipy import stats

    methods = len(table)
    pairs = [(i, j) for i in range(methods) for j in range(i)]
    differ = np.zeros((methods, methods), dtype=bool)
    # The least p-value there can be, with every block to one side.
    if 2.0 ** (1 - table.shape[1]) * len(pairs) >= alpha:
        return differ
    p = []
    for i, j in pairs:
        same = bool((table[i] == table[j]).all())
        found: Any = None if same else stats.wilcoxon(table[i], table[j])
        p.append(1.0 if same else float(found.pvalue))
    for (i, j), adjusted in zip(pairs, holm(p), strict=True):
        differ[i, j] = differ[j, i] = adjusted < alpha
    return differ


def _cliques(order: np.ndarray, differ: Callable[[int, int], bool]) -> list[list[int]]:
    """Longest runs, as positions in the order, of at least two methods of which no two differ."""
    found: list[list[int]] = []
    end = 0
    for start in range(len(order)):
        stop = start + 1
        while stop < len(order) and not any(
            differ(order[i], order[stop]) for i in range(start, stop)
        ):
            stop += 1
        if stop > end and stop - start > 1:
            found.append(list(range(start, stop)))
        end = max(end, stop)
    return found


def _spread(given: list[float]) -> dict[str, float | int | None]:
    several = len(given) > 1
    return {
        "mean": statistics.fmean(given),
        "sd": statistics.stdev(given) if several else None,
        "n": len(given),
    }
