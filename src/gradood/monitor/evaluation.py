"""How well a monitor's scores separate in-distribution from out-of-distribution data."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from torch import Tensor

from gradood import metrics
from gradood._engine.batches import Data
from gradood._engine.mistakes import type_named
from gradood._io import html as html
from gradood._io import markdown as markdown
from gradood._io.dataframe import data_frame
from gradood.calibration._rule import DecisionRule
from gradood.errors import ConfigError, DataError
from gradood.monitor.monitor import Monitor

__all__ = ["Row", "Table", "evaluate", "rows_of"]


@dataclass(frozen=True, slots=True)
class Row:
    """One method on one out-of-distribution set.

    Attributes:
        method: the detector's name in the monitor, or ``"combined"``.
        ood: the set's name.
        n_id: in-distribution samples.
        n_ood: out-of-distribution samples.
        summary: the metrics.
        intervals: metric name → (low, high); empty if none were asked for.
    """

    method: str
    ood: str
    n_id: int
    n_ood: int
    summary: metrics.Summary
    intervals: Mapping[str, tuple[float, float]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Table:
    """Every method on every set.

    Attributes:
        rows: methods in the monitor's order, sets in the order given.
    """

    rows: tuple[Row, ...]

    @property
    def methods(self) -> tuple[str, ...]:
        """Names of the methods, in order."""
        return tuple(dict.fromkeys(row.method for row in self.rows))

    @property
    def sets(self) -> tuple[str, ...]:
        """Names of the out-of-distribution sets, in order."""
        return tuple(dict.fromkeys(row.ood for row in self.rows))

    def __getitem__(self, key: tuple[str, str]) -> metrics.Summary:
        """The metrics of (method, set)."""
        for row in self.rows:
            if (row.method, row.ood) == key:
                return row.summary
        raise KeyError(key)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {
            "rows": [
                {"method": r.method, "ood": r.ood, "n_id": r.n_id, "n_ood": r.n_ood}
                | asdict(r.summary)
                | {"intervals": {name: list(pair) for name, pair in r.intervals.items()}}
                for r in self.rows
            ]
        }

    def markdown(self) -> str:
        """FPR95 (share of OOD kept at 95 % of ID) / AUROC in percent; their means over several."""
        return markdown.table(*self._cells())

    def to_pandas(self) -> Any:
        """A ``pandas.DataFrame``, one row per ``method`` and ``ood`` set, with sizes and metrics.

        Raises:
            ModuleNotFoundError: pandas is not installed.
        """
        rows = [
            {"method": r.method, "ood": r.ood, "n_id": r.n_id, "n_ood": r.n_ood} | asdict(r.summary)
            for r in self.rows
        ]
        return data_frame({title: [row[title] for row in rows] for title in rows[0]})

    def _cells(self) -> tuple[list[str], list[list[str]]]:
        """Header and rows of the table."""
        several = len(self.sets) > 1
        head = ["method", *self.sets, *(["mean"] if several else [])]
        rows = []
        for method in self.methods:
            cells = [self[method, name] for name in self.sets]
            pairs = [(c.fpr_ood_at_tpr_id95, c.auroc) for c in cells]
            if several:
                pairs.append((_mean([p[0] for p in pairs]), _mean([p[1] for p in pairs])))
            rows.append([method, *(f"{100 * f:.2f} / {100 * a:.2f}" for f, a in pairs)])
        return head, rows

    def __str__(self) -> str:
        return self.markdown()

    def _repr_html_(self) -> str:
        what = "FPR95 ↓ / AUROC ↑ in percent: share of the set kept where 95 % of ID are / chance "
        what += "that a sample of it scores above one of ID"
        return html.table(*self._cells()) + html.paragraph(what)

    def __repr__(self) -> str:
        methods, sets = ", ".join(self.methods), ", ".join(self.sets)
        return f"Table({methods}; {sets})"


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)


def evaluate(
    monitor: Monitor, *, id: Data, ood: Mapping[str, Data], level: float | None = 0.95
) -> Table:
    """Score each data set once with all detectors and compare.

    The last row is ``"combined"``, by the statistic of all detectors, where the monitor has
    ``combine=`` and was calibrated, which is what makes scores of different scales comparable.

    Args:
        monitor: fitted where needed, and calibrated to have the row ``"combined"``.
        id: in-distribution test data, not used in the fit.
        ood: out-of-distribution sets by name.
        level: coverage of the confidence intervals (`gradood.metrics.intervals`); None for none.

    Raises:
        DataError: no set, or an empty one.
        ConfigError: `monitor` is none, or `level` no share.

    Warns:
        CoverageWarning: `id` lacks classes that the fit data has, by what the model predicts.

    Cost:
        One pass per data set; the intervals about a second per method and 20,000 samples.
    """
    if not isinstance(monitor, Monitor):
        raise ConfigError(
            f"{type_named(monitor)} was given as the monitor; give gradood.Monitor(model, "
            "detectors), fitted where needed."
        )
    if not isinstance(ood, Mapping):
        raise DataError(f"ood is {type_named(ood)}; expected sets by name: {{'name': loader}}.")
    if not ood:
        raise DataError("no out-of-distribution set was given; give ood={'name': loader}.")
    number = isinstance(level, int | float) and not isinstance(level, bool)
    if level is not None and not (number and 0 < level < 1):
        raise ConfigError(f"level={level!r}; expected a number between 0 and 1, or None.")
    rule = monitor._session.state.rule
    known = _scores(monitor, id, rule, covered=True)
    names = list(known)
    rows = [
        row
        for name, data in ood.items()
        for row in rows_of(name, known, _scores(monitor, data, rule), level=level)
    ]
    return Table(tuple(sorted(rows, key=lambda row: names.index(row.method))))


def rows_of(
    ood: str, known: Mapping[str, Tensor], unknown: Mapping[str, Tensor], *, level: float | None
) -> list[Row]:
    """One row per method, from the scores of two data sets.

    Args:
        ood: name of the out-of-distribution set.
        known: method → scores of the in-distribution data.
        unknown: method → scores of the out-of-distribution data.
        level: coverage of the confidence intervals; None for none.

    Raises:
        DataError: scores that cannot be compared; names the method and the set.
    """
    rows: list[Row] = []
    for method, a in known.items():
        b = unknown[method]
        try:
            summary = metrics.summary(a, b)
        except DataError as error:
            raise DataError(f"{method} on {ood}: {error}") from error
        ranges = {} if level is None else metrics.intervals(a, b, level=level)
        rows.append(Row(method, ood, len(a), len(b), summary, ranges))
    return rows


def _scores(
    monitor: Monitor, data: Data, rule: DecisionRule | None, *, covered: bool = False
) -> dict[str, Tensor]:
    """Scores of every detector, and of their combination if the rule has one."""
    scores = dict(monitor._session.score(data, covered=covered).scores)
    if rule is None or rule.fusion is None:
        return scores
    return scores | {"combined": rule.fusion.statistic(scores)}
