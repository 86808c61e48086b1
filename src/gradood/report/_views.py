"""Lookup of the figures of a benchmark record by method, set, group and measure."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from gradood.bench._record_figures import ComparisonRow, FigureRow, Spread
from gradood.bench._record_inputs import MethodRecord
from gradood.bench.record import Record, RunRecord

__all__ = [
    "Figure",
    "GROUPS",
    "MEASURES",
    "Measure",
    "OutlierSet",
    "RecordView",
    "RunView",
    "Versus",
    "better",
    "percent",
]

_LEAST_NOISE = 1.1
"""Two times of which one is at most this many times the other are never told apart."""


@dataclass(frozen=True, slots=True)
class Measure:
    """A metric of `gradood.metrics`, in a reader's words.

    Attributes:
        label: short name.
        higher: whether higher is better.
        meaning: one sentence.
    """

    label: str
    higher: bool
    meaning: str


MEASURES = {
    "auroc": Measure(
        "AUROC",
        True,
        "Chance that an outlier gets a higher score than a known image; 50 % is guessing.",
    ),
    "fpr_ood_at_tpr_id95": Measure(
        "FPR95, outliers let through",
        False,
        "Share of the outliers taken for known where 95 % of the known images are kept.",
    ),
    "fpr_id_at_tpr_ood95": Measure(
        "FPR95, false alarms",
        False,
        "Share of the known images flagged where 95 % of the outliers are caught "
        "(the sense of OpenOOD).",
    ),
    "aupr_in": Measure(
        "AUPR-in",
        True,
        "Average precision with the known images as the positive class; depends on how many there "
        "are of each.",
    ),
    "aupr_out": Measure(
        "AUPR-out",
        True,
        "Average precision with the outliers as the positive class; depends on how many there are "
        "of each.",
    ),
}
"""By name in the record; the first is the one that the advice goes by."""

GROUPS = ("all", "near", "far")
"""Of sets, as in the record."""


def better(measure: str, one: float, other: float) -> bool:
    """Whether the one figure is better than the other."""
    return one > other if MEASURES[measure].higher else one < other


def percent(value: float, digits: int = 1) -> str:
    """As text, with a space that does not break.

    Example:
        >>> percent(0.92604)
        '92.6\\xa0%'
    """
    return f"{100 * value:.{digits}f}\N{NO-BREAK SPACE}%"


Figure = tuple[float, float | None, float | None]
"""A value and the ends of its interval, None where there is no interval."""


@dataclass(frozen=True, slots=True)
class OutlierSet:
    """A set of outliers.

    Attributes:
        name: of the set.
        group: ``near`` or ``far``.
        n: number of images.
    """

    name: str
    group: str
    n: int


@dataclass(frozen=True, slots=True)
class Versus:
    """A method against the best of the same column.

    Attributes:
        difference: its figure minus the best one's.
        low: of the interval of the difference, or None.
        high: of the interval of the difference, or None.
        p: after Holm's correction, or None.
        significant: whether the two differ.
    """

    difference: float
    low: float | None
    high: float | None
    p: float | None
    significant: bool

    def turned(self) -> "Versus":
        """The best against the method."""
        low = None if self.high is None else -self.high
        high = None if self.low is None else -self.low
        return Versus(-self.difference, low, high, self.p, self.significant)


@dataclass(frozen=True, eq=False, slots=True)
class RunView:
    """One network under test.

    Attributes:
        record: of the run.
        cells: figures by measure, of (method, set).
        means: figures by measure, of (method, group).
        pairs: (measure, group, a, b) → a against b, and the same turned round.
    """

    record: RunRecord
    cells: Mapping[tuple[str, str], Mapping[str, Figure]]
    means: Mapping[tuple[str, str], Mapping[str, Figure]]
    pairs: Mapping[tuple[str, str, str, str], Versus]

    @staticmethod
    def of(record: RunRecord, comparisons: Sequence[ComparisonRow]) -> "RunView":
        """The view of a run, with its rows among the comparisons of all runs."""
        pairs: dict[tuple[str, str, str, str], Versus] = {}
        for row in comparisons:
            if row.run == record.run:
                low, high = row.interval or (None, None)
                versus = Versus(row.difference, low, high, row.p_holm, row.significant)
                pairs[row.metric, row.group, row.a, row.b] = versus
                pairs[row.metric, row.group, row.b, row.a] = versus.turned()
        return RunView(
            record,
            cells={(row.method, row.ood): _figures(row) for row in record.rows},
            means={(row.method, row.group): _figures(row) for row in record.means},
            pairs=pairs,
        )

    @property
    def name(self) -> str:
        """The unique name of the run."""
        return self.record.run

    @property
    def label(self) -> str:
        """What several seeds of one network share."""
        return self.record.label or self.name

    @property
    def methods(self) -> Mapping[str, MethodRecord]:
        """By label, in the record's order."""
        return self.record.methods

    def mean(self, method: str, measure: str, group: str = "all") -> float | None:
        """The mean over the sets of a group, or None if the record has none."""
        figure = self.means.get((method, group), {}).get(measure)
        return None if figure is None else figure[0]

    def own_pass(self, method: str) -> bool:
        """Whether it needs a pass that it shares with no other."""
        return self.methods[method].pass_kind == "own"

    def price(self, method: str, column: str = "time_ratio") -> float | None:
        """A figure of its cost; None if it was not measured, or is no finite number.

        A time below that of the forward pass, which every method needs, is noise and counts as 1.
        """
        value = self._measured(method, column)
        return max(1.0, value) if value is not None and column == "time_ratio" else value

    def timing_noise(self) -> float:
        """The factor within which two times are not told apart, at least 1.1.

        No method is faster than the forward pass that it needs: one that was measured at 1/f of it
        shows that the timing was off by a factor of f.
        """
        times = [self._measured(method, "time_ratio") for method in self.methods]
        return max([_LEAST_NOISE, *(1 / time for time in times if time)])

    def _measured(self, method: str, column: str) -> float | None:
        cost = self.record.cost.get(method)
        value = None if cost is None else getattr(cost, column)
        return float(value) if value is not None and math.isfinite(value) else None

    def ordered(
        self, measure: str, group: str = "all", *, shared_only: bool = False
    ) -> list[tuple[str, float]]:
        """Methods and their means, the best first, in the record's order among equals."""
        means = [
            (method, value)
            for method in self.methods
            if (value := self.mean(method, measure, group)) is not None
            and not (shared_only and self.own_pass(method))
        ]
        sign = -1 if MEASURES[measure].higher else 1
        return sorted(means, key=lambda pair: sign * pair[1])

    def versus_best(self, measure: str, group: str) -> tuple[str, dict[str, Versus]] | None:
        """The best method, and each other that was compared with it; None if none was."""
        order = self.ordered(measure, group)
        if not order:
            return None
        best = order[0][0]
        others = {
            method: pair
            for method, _ in order[1:]
            if (pair := self.pairs.get((measure, group, method, best))) is not None
        }
        return (best, others) if others else None


@dataclass(frozen=True, eq=False, slots=True)
class RecordView:
    """A record of `gradood bench`, as the page reads it.

    Attributes:
        record: itself.
        sets: of outliers, in the record's order.
        runs: networks under test.
    """

    record: Record
    sets: tuple[OutlierSet, ...]
    runs: tuple[RunView, ...]

    @staticmethod
    def of(record: Record) -> "RecordView":
        """The view of a record."""
        sets = tuple(OutlierSet(own.name, own.group, own.n) for own in record.suite.ood)
        runs = tuple(RunView.of(run, record.comparisons) for run in record.runs)
        return RecordView(record, sets, runs)

    def over_runs(self, run: RunView, method: str) -> Mapping[str, Mapping[str, Spread]]:
        """Group → measure → spread over the runs of the same network."""
        seeds = self.record.seeds
        return seeds.get(method) or seeds.get(f"{run.label}/{method}") or {}

    @property
    def groups(self) -> tuple[str, ...]:
        """Of sets, those that some run has means of."""
        present = {group for run in self.runs for _, group in run.means}
        return tuple(group for group in GROUPS if group in present)


def _figures(row: FigureRow) -> dict[str, Figure]:
    """Measure → its figure."""
    figures: dict[str, Figure] = {}
    for measure in MEASURES:
        low, high = row.intervals.get(measure) or (None, None)
        figures[measure] = (getattr(row, measure), low, high)
    return figures
