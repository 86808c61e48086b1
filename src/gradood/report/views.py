"""What the page needs of an arena record, looked up by name; refuses what is no such record."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gradood.errors import DataError
from gradood.report.measures import GROUPS, MEASURES

__all__ = ["Arena", "Figure", "OutlierSet", "Run", "Versus"]

Figure = tuple[float, float | None, float | None]
"""A value and the ends of its interval, None where there is no interval."""

_FORMAT, _VERSION = "gradood-arena", 1


@dataclass(frozen=True, slots=True)
class OutlierSet:
    """A set of outliers.

    Attributes:
        name: of the set.
        group: ``near`` or ``far``.
        n: images, or None if not told.
    """

    name: str
    group: str
    n: int | None


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


@dataclass(frozen=True, eq=False, slots=True)
class Run:
    """One network under test.

    Attributes:
        name: unique.
        label: what several seeds of one network share.
        record: of the run, as it was written.
        methods: facts by name of the method, in the record's order.
        cells: figures by measure, of (method, set).
        means: figures by measure, of (method, group).
        cost: by name of the method.
        pairs: (measure, group, a, b) → a against b, and the same turned round.
    """

    name: str
    label: str
    record: Mapping[str, Any]
    methods: Mapping[str, Mapping[str, Any]]
    cells: Mapping[tuple[str, str], Mapping[str, Figure]]
    means: Mapping[tuple[str, str], Mapping[str, Figure]]
    cost: Mapping[str, Mapping[str, Any]]
    pairs: Mapping[tuple[str, str, str, str], Versus]

    def mean(self, method: str, measure: str, group: str = "all") -> float | None:
        """The mean over the sets of a group, or None if the record has none."""
        figure = self.means.get((method, group), {}).get(measure)
        return None if figure is None else figure[0]

    def own_pass(self, method: str) -> bool:
        """Whether it needs a pass that it shares with no other."""
        return self.methods[method].get("pass") == "own"

    def price(self, method: str, column: str = "time_ratio") -> float | None:
        """A figure of its cost, or None if it was not measured."""
        return _number(self.cost.get(method, {}).get(column))

    def ordered(
        self, measure: str, group: str = "all", *, shared_only: bool = False
    ) -> list[tuple[str, float]]:
        """Methods and their means, the best first, in the record's order among equals."""
        found = [
            (method, value)
            for method in self.methods
            if (value := self.mean(method, measure, group)) is not None
            and not (shared_only and self.own_pass(method))
        ]
        sign = -1 if MEASURES[measure].higher else 1
        return sorted(found, key=lambda pair: sign * pair[1])

    def versus_best(self, measure: str, group: str) -> tuple[str, dict[str, Versus]] | None:
        """The best method, and each other that was compared with it; None if none was."""
        order = self.ordered(measure, group)
        if not order:
            return None
        best = order[0][0]
        found = {
            method: pair
            for method, _ in order[1:]
            if (pair := self.pairs.get((measure, group, method, best))) is not None
        }
        return (best, found) if found else None


@dataclass(frozen=True, eq=False, slots=True)
class Arena:
    """A record of `gradood bench`, as the page reads it.

    Attributes:
        record: as it was written.
        sets: of outliers, in the record's order.
        runs: networks under test.
    """

    record: Mapping[str, Any]
    sets: tuple[OutlierSet, ...]
    runs: tuple[Run, ...]

    @staticmethod
    def of(record: Mapping[str, Any]) -> "Arena":
        """Read a record.

        Raises:
            DataError: it is none, of another version, or lacks something.
        """
        found = record.get("format"), record.get("version")
        if found != (_FORMAT, _VERSION):
            raise DataError(
                f"the record has format {found[0]!r} and version {found[1]!r}; expected "
                f"{_FORMAT!r} and {_VERSION}. Give an arena.json of this version's `gradood bench`."
            )
        try:
            return _read(record)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise DataError(
                f"the arena record cannot be read ({type(error).__name__}: {error}); expected an "
                "arena.json as `gradood bench` writes it. Make it again."
            ) from error

    def over_runs(self, run: Run, method: str) -> Mapping[str, Any]:
        """Group → measure → mean, sd and n over the runs of the same network."""
        seeds = self.record.get("seeds") or {}
        return seeds.get(method) or seeds.get(f"{run.label}/{method}") or {}

    @property
    def groups(self) -> tuple[str, ...]:
        """Of sets, those that some run has means of."""
        present = {group for run in self.runs for _, group in run.means}
        return tuple(group for group in GROUPS if group in present)


def _read(record: Mapping[str, Any]) -> Arena:
    sets = tuple(
        OutlierSet(str(given["name"]), str(given["group"]), given.get("n"))
        for given in record["suite"]["ood"]
    )
    runs = tuple(_run(given, record.get("comparisons") or ()) for given in record["runs"])
    if not runs or not all(run.methods for run in runs):
        raise ValueError("it has no run, or a run without methods")
    if len({run.name for run in runs}) < len(runs):
        raise ValueError("two runs have the same label")
    return Arena(record, sets, runs)


def _run(given: Mapping[str, Any], comparisons: Sequence[Mapping[str, Any]]) -> Run:
    name = str(given["run"])
    pairs: dict[tuple[str, str, str, str], Versus] = {}
    for row in comparisons:
        if row["run"] == name:
            low, high = row.get("interval") or (None, None)
            difference, low, high = float(row["difference"]), _number(low), _number(high)
            rest = _number(row.get("p_holm")), bool(row["significant"])
            key = str(row["metric"]), str(row["group"])
            pairs[*key, row["a"], row["b"]] = Versus(difference, low, high, *rest)
            turned = (None if high is None else -high), (None if low is None else -low)
            pairs[*key, row["b"], row["a"]] = Versus(-difference, *turned, *rest)
    return Run(
        name=name,
        label=str(given.get("label") or name),
        record=given,
        methods=dict(given["methods"]),
        cells={(row["method"], row["ood"]): _figures(row) for row in given["rows"]},
        means={(row["method"], row["group"]): _figures(row) for row in given["means"]},
        cost=dict(given.get("cost") or {}),
        pairs=pairs,
    )


def _figures(row: Mapping[str, Any]) -> dict[str, Figure]:
    found: dict[str, Figure] = {}
    intervals = row.get("intervals") or {}
    for measure in MEASURES:
        value = _number(row.get(measure))
        if value is not None:
            low, high = intervals.get(measure) or (None, None)
            found[measure] = (value, _number(low), _number(high))
    return found


def _number(value: Any) -> float | None:
    """A finite number; JSON spells others as text."""
    if value is None or isinstance(value, bool):
        return None
    number = float(value)
    return number if math.isfinite(number) else None
