"""How much figures differ between runs, such as networks trained with other seeds."""

import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from gradood.metrics.analysis import METRICS

__all__ = ["over_seeds"]


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


def _spread(given: list[float]) -> dict[str, float | int | None]:
    several = len(given) > 1
    return {
        "mean": statistics.fmean(given),
        "sd": statistics.stdev(given) if several else None,
        "n": len(given),
    }
