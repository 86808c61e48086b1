"""Everything that is asked of the scores of one model, with what it takes worked out once."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import numpy as np

from gradood.errors import ConfigError, UnknownNameError, suggest
from gradood.metrics._bootstrap import (
    AVERAGE_PRECISIONS,
    RATES,
    Draws,
    average_precisions,
    rates,
)
from gradood.metrics._delong import Areas, Estimates
from gradood.metrics.confidence import Interval, area_interval, rate_intervals, reach_of
from gradood.metrics.counts import Counts, Scored, Scores
from gradood.metrics.separation import summary_of

__all__ = ["Analysis", "METRICS"]

METRICS = ("auroc", *AVERAGE_PRECISIONS, *RATES)


@dataclass(frozen=True, eq=False)
class Analysis:
    """Figures of several methods on several sets, with their errors.

    Attributes:
        scored: the scores.
        level: coverage of intervals.
        draws: bootstrap repetitions for false positive rates.
        precision_draws: the same for average precisions, which cost more.
        seed: of the draws.
    """

    scored: Scored
    level: float = 0.95
    draws: int = 1000
    precision_draws: int = 400
    seed: int = 0

    def __post_init__(self) -> None:
        reach_of(self.level)
        for name in ("draws", "precision_draws"):
            if getattr(self, name) < 2:
                raise ConfigError(f"{name}={getattr(self, name)!r}; expected a whole number > 1.")

    @staticmethod
    def of(
        known: Mapping[str, Scores],
        unknown: Mapping[str, Mapping[str, Scores]],
        groups: Mapping[str, str] | None = None,
        **options: Any,
    ) -> "Analysis":
        """Of scores by method; see `Scored.of` and the attributes.

        Raises:
            DataError: scores that cannot be compared.
            ConfigError: a group or an option that makes no sense.
        """
        return Analysis(Scored.of(known, unknown, groups), **options)

    def rows(self) -> list[dict[str, Any]]:
        """One row per method and set: its size, metrics, and ``intervals``.

        AUROC and false positive rates as `gradood.metrics.intervals` has them; average precisions
        by the bootstrap of `means`.
        """
        found: list[dict[str, Any]] = []
        for k, method in enumerate(self.scored.methods):
            for name, scores in self.scored.unknown.items():
                values, intervals = self._figures[name][k]
                for metric in ("auroc", *AVERAGE_PRECISIONS):
                    intervals[metric] = self._interval(metric, (name,), k)
                sizes = {"n_id": self.scored.known.shape[1], "n_ood": scores.shape[1]}
                ordered = {metric: list(intervals[metric]) for metric in METRICS}
                found.append(
                    {"method": method, "ood": name, **sizes, **values, "intervals": ordered}
                )
        return found

    def means(self) -> list[dict[str, Any]]:
        """One row per method and group: unweighted means over its sets, with ``intervals``.

        AUROC: DeLong's covariance on the logit scale, the in-distribution sample shared by all
        sets. The others: percentiles of the bootstrap, where they share it too.
        """
        found: list[dict[str, Any]] = []
        for k, method in enumerate(self.scored.methods):
            for group, sets in self.scored.members().items():
                values = {metric: float(self.values(metric, sets)[k]) for metric in METRICS}
                intervals = {metric: list(self._interval(metric, sets, k)) for metric in METRICS}
                found.append({"method": method, "group": group, **values, "intervals": intervals})
        return found

    def values(self, metric: str, sets: Sequence[str]) -> np.ndarray:
        """(k,) the unweighted mean of a metric over sets, by method.

        Raises:
            UnknownNameError: no such metric.
        """
        if metric not in METRICS:
            raise UnknownNameError(f"no metric {metric!r}; {suggest(metric, METRICS)}")
        figures = [[values[metric] for values, _ in self._figures[name]] for name in sets]
        return np.mean(figures, axis=0)

    def estimates(self, metric: str, sets: Sequence[str]) -> Estimates:
        """The means of `values`, and the covariance of their errors.

        An AUROC whose scores say nothing of its error, as of sets that do not overlap, gets the
        variance that its interval implies, on its own.

        Raises:
            UnknownNameError: no such metric.
        """
        values = self.values(metric, sets)
        if metric != "auroc":
            covariance = np.atleast_2d(np.cov(self._drawn(metric, sets), rowvar=False))
            return Estimates(values, covariance)
        covariance = self._area_covariance(tuple(sets)).copy()
        for k in np.flatnonzero(np.diag(covariance) == 0).tolist():
            low, high = self._interval(metric, sets, k)
            covariance[k, k] = ((high - low) / (2 * reach_of(self.level))) ** 2
        return Estimates(values, covariance)

    @cached_property
    def _figures(self) -> dict[str, list[tuple[dict[str, float], dict[str, Interval]]]]:
        """Set → by method: the metrics, and the intervals of the false positive rates."""
        reach = reach_of(self.level)
        found: dict[str, list[tuple[dict[str, float], dict[str, Interval]]]] = {}
        for name, scores in self.scored.unknown.items():
            counts = [Counts.of(*pair) for pair in zip(self.scored.known, scores, strict=True)]
            found[name] = [(asdict(summary_of(c)), rate_intervals(c, reach)) for c in counts]
        return found

    @cached_property
    def _areas(self) -> Areas:
        return Areas.of(self.scored)

    @cached_property
    def _rates(self) -> Draws:
        return rates(self.scored, draws=self.draws, seed=self.seed)

    @cached_property
    def _precisions(self) -> Draws:
        return average_precisions(self.scored, draws=self.precision_draws, seed=self.seed)

    @cached_property
    def _covariances(self) -> dict[tuple[str, ...], np.ndarray]:
        return {}

    def _area_covariance(self, sets: tuple[str, ...]) -> np.ndarray:
        if sets not in self._covariances:
            covariance = self._areas.mean(sets).covariance
            # What rounding leaves of no variance at all.
            covariance[np.abs(covariance) < 1e-18] = 0
            self._covariances[sets] = covariance
        return self._covariances[sets]

    def _drawn(self, metric: str, sets: Sequence[str]) -> np.ndarray:
        """(draws, k) means over the sets."""
        drawn = (self._rates if metric in RATES else self._precisions)[metric]
        return np.mean([drawn[name] for name in sets], axis=0)

    def _interval(self, metric: str, sets: Sequence[str], k: int) -> Interval:
        value = float(self.values(metric, sets)[k])
        if metric == "auroc":
            n = self.scored.known.shape[1]
            m = sum(self.scored.unknown[name].shape[1] for name in sets)
            variance = float(self._area_covariance(tuple(sets))[k, k])
            return area_interval(value, variance, n, m, reach_of(self.level))
        tail = 50 * (1 - self.level)
        ends = np.percentile(self._drawn(metric, sets)[:, k], [tail, 100 - tail])
        low, high = ends.tolist()
        return min(low, value), max(high, value)
