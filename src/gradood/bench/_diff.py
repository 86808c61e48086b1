"""What is significantly different between two records of the same suite."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import numpy as np

from gradood.bench._change import LEVEL, Change, Changes
from gradood.bench._record_figures import FigureRow, figure
from gradood.bench._record_inputs import MethodRecord, SuiteRecord
from gradood.bench.folder import ScoresByRun
from gradood.bench.record import Record, RunRecord
from gradood.errors import ConfigError, suggest
from gradood.metrics import METRICS, Analysis, differences, holm
from gradood.metrics.confidence import reach_of
from gradood.metrics.significance import chance

__all__ = ["changes"]

Places = dict[tuple[str, str], tuple[str, ...]]
"""(``group`` or ``ood``, its name) → sets, of which the mean is meant."""


def changes(
    before: Record,
    after: Record,
    scores_before: ScoresByRun | None = None,
    scores_after: ScoresByRun | None = None,
    *,
    metrics: Sequence[str] = ("auroc", "fpr_ood_at_tpr_id95"),
    sets: bool = False,
) -> Changes:
    """Compare two records, figure by figure.

    With the scores behind both, of a method that gave each image a score in both: the paired tests
    of `gradood.metrics.differences`. Otherwise the intervals in the records are all there
    is: the difference is held against the root of the sum of their squared halves that face each
    other, as if the records were of different images. As they are not, that finds too little rather
    than too much.

    Networks are matched by their labels; if each record has but one, these two.

    Args:
        before: the first record.
        after: the second.
        scores_before: behind the first record, if at hand; see `scores_of`.
        scores_after: behind the second.
        metrics: to compare.
        sets: compare on every set, not only the means over sets.

    Raises:
        ConfigError: the records are of different suites or data, have no network in common or no
            intervals, or scores are not those of their record; or there is no such metric.
    """
    for metric in metrics:
        if metric not in METRICS:
            raise ConfigError(f"no metric {metric!r}; {suggest(metric, METRICS)}")
    _check_suites(before.suite, after.suite)
    groups = before.suite.members()
    places: Places = {("group", name): own for name, own in groups.items()}
    if sets:
        places |= {("ood", name): (name,) for name in groups["all"]}
    runs = _matched(before.runs, after.runs)
    figures: list[Change] = []
    for label, a, b in runs:
        of_a, of_b = (scores_before or {}).get(a.run), (scores_after or {}).get(b.run)
        figures += _Pair(label, a, b, of_a, of_b).figures(metrics, places)
    adjusted = holm([change.p for change in figures])
    return Changes(
        figures=tuple(replace(c, p_holm=p) for c, p in zip(figures, adjusted, strict=True)),
        only_before={label: only for label, a, b in runs if (only := _missing(a, b))},
        only_after={label: only for label, a, b in runs if (only := _missing(b, a))},
        options={
            label: changed
            for label, a, b in runs
            if (changed := _changed_options(a.methods, b.methods))
        },
    )


def _missing(run: RunRecord, other: RunRecord) -> tuple[str, ...]:
    """Methods of a run that the other one has not."""
    return tuple(name for name in run.methods if name not in other.methods)


@dataclass(frozen=True, eq=False, slots=True)
class _Pair:
    """One network in both records.

    Attributes:
        label: its own.
        before: its part of the first record.
        after: the same of the second.
        scores_before: set → method → (n,) scores, or None.
        scores_after: the same of the second.
    """

    label: str
    before: RunRecord
    after: RunRecord
    scores_before: Mapping[str, Mapping[str, Any]] | None
    scores_after: Mapping[str, Mapping[str, Any]] | None

    def figures(self, metrics: Sequence[str], places: Places) -> list[Change]:
        """Every method, place and metric that both have, not yet corrected."""
        both = [name for name in self.before.methods if name in self.after.methods]
        rows = _rows(self.before), _rows(self.after)
        names = ("id", *places["group", "all"])
        paired = [name for name in both if self._paired(name, names)]
        equal = {name for name in paired if self._equal(name, names)}
        tested = self._tested([n for n in paired if n not in equal], names[1:], metrics, places)
        changes: list[Change] = []
        for method, place, metric in product(both, places, metrics):
            first, second = (own[method, place] for own in rows)
            value, later = figure(first, metric), figure(second, metric)
            low, high, p = _unpaired(first, second, metric)
            if method in paired:
                # Equal scores are not in the test.
                test = tested.get((method, place, metric), (0.0, 0.0, 0.0, 1.0))
                expected, low, high, p = test
                self._check_scores(later - value, expected, method, place, metric)
            changes.append(
                Change(
                    run=self.label,
                    method=method,
                    **{"group": None, "ood": None, place[0]: place[1]},
                    metric=metric,
                    before=value,
                    after=later,
                    interval=(low, high),
                    p=p,
                    p_holm=p,
                    paired=method in paired,
                )
            )
        return changes

    def _check_scores(
        self, gain: float, expected: float, method: str, place: tuple[str, str], metric: str
    ) -> None:
        if abs(gain - expected) > 1e-6:
            raise ConfigError(
                f"{self.label}: the scores of {method} on {place[1]} give another {metric} than "
                "the record; expected the scores that were written with it: take them away, or "
                "write both again."
            )

    def _paired(self, method: str, names: Sequence[str]) -> bool:
        a, b = self.scores_before, self.scores_after
        if a is None or b is None:
            return False
        return all(
            method in a.get(name, ())
            and method in b.get(name, ())
            and len(a[name][method]) == len(b[name][method])
            for name in names
        )

    def _equal(self, method: str, names: Sequence[str]) -> bool:
        a, b = self.scores_before or {}, self.scores_after or {}
        return all(np.array_equal(a[name][method], b[name][method]) for name in names)

    def _tested(
        self,
        methods: Sequence[str],
        sets: Sequence[str],
        metrics: Sequence[str],
        places: Places,
    ) -> dict[tuple[str, tuple[str, str], str], tuple[float, float, float, float]]:
        """(method, place, metric) → difference, its interval, p; of scores that differ."""
        if not methods:
            return {}
        versions = {"before": self.scores_before or {}, "after": self.scores_after or {}}
        merged = {
            name: {f"{v} {m}": own[name][m] for v, own in versions.items() for m in methods}
            for name in ("id", *sets)
        }
        analysis = Analysis.of(merged.pop("id"), merged, level=LEVEL)
        pairs = [(f"after {method}", f"before {method}") for method in methods]
        return {
            (method, place, metric): (row["difference"], *row["interval"], row["p"])
            for place, own in places.items()
            for metric in metrics
            for method, row in zip(methods, differences(analysis, metric, own, pairs), strict=True)
        }


def _unpaired(before: FigureRow, after: FigureRow, metric: str) -> tuple[float, float, float]:
    """Interval and p-value of a difference, from the intervals of both."""
    try:
        (low_a, high_a), (low_b, high_b) = before.intervals[metric], after.intervals[metric]
    except KeyError as error:
        raise ConfigError(
            f"{before.method} has no interval of {metric} in one of the records; expected both "
            "as gradood bench writes them."
        ) from error
    a, b = figure(before, metric), figure(after, metric)
    down, up = math.hypot(b - low_b, high_a - a), math.hypot(high_b - b, a - low_a)
    facing = down if b > a else up
    return b - a - down, b - a + up, chance(b - a, facing / reach_of(LEVEL))


def _rows(run: RunRecord) -> dict[tuple[str, tuple[str, str]], FigureRow]:
    """(method, place) → row."""
    rows: dict[tuple[str, tuple[str, str]], FigureRow] = {
        (row.method, ("ood", row.ood)): row for row in run.rows
    }
    return rows | {(row.method, ("group", row.group)): row for row in run.means}


def _matched(
    before: Sequence[RunRecord], after: Sequence[RunRecord]
) -> list[tuple[str, RunRecord, RunRecord]]:
    """Label, and its run in both; one without methods where a record has none.

    Raises:
        ConfigError: no label is in both, and there are several.
    """
    first, second = ({run.run: run for run in runs} for runs in (before, after))
    if not first.keys() & second.keys():
        if len(first) == len(second) == 1:
            (a, run), (b, other) = first.popitem(), second.popitem()
            return [(f"{a} → {b}", run, other)]
        raise ConfigError(
            f"the records have no network in common: {', '.join(first) or 'none'}; "
            f"{', '.join(second) or 'none'}; expected the same labels, or one network in each."
        )
    none = RunRecord(run="", methods={}, rows=(), means=())
    labels = dict.fromkeys([*first, *second])
    return [(label, first.get(label, none), second.get(label, none)) for label in labels]


def _changed_options(
    before: Mapping[str, MethodRecord], after: Mapping[str, MethodRecord]
) -> dict[str, tuple[dict[str, Any], dict[str, Any]]]:
    """Methods that were run with other options, with those before and after."""
    first, second = (
        {name: {"method": own.method, **own.options} for name, own in methods.items()}
        for methods in (before, after)
    )
    return {
        name: (options, second[name])
        for name, options in first.items()
        if name in second and second[name] != options
    }


def _check_suites(before: SuiteRecord, after: SuiteRecord) -> None:
    """Refuse records of other suites or images; hashes count where both are known.

    Raises:
        ConfigError: what differs.
    """
    for key in ("name", "version"):
        values = getattr(before, key), getattr(after, key)
        if values[0] != values[1]:
            raise ConfigError(
                f"the records are of suites with another {key}, {values[0]!r} and "
                f"{values[1]!r}; expected the same: figures of other data cannot be compared."
            )
    first, second = (
        {"id": suite.id} | {own.name: own for own in suite.ood} for suite in (before, after)
    )
    if first.keys() != second.keys():
        raise ConfigError(
            f"the records are of different sets, {', '.join(first)} and {', '.join(second)}; "
            "expected the same."
        )
    for name, own in first.items():
        for key in ("n", "group", "sha256"):
            values = getattr(own, key, None), getattr(second[name], key, None)
            if values[0] != values[1] and None not in values:
                raise ConfigError(
                    f"the records have different data in set {name!r}: {key} {values[0]} and "
                    f"{values[1]}; expected the same images in both."
                )
