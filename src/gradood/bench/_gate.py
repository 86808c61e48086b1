"""Regression gate: figures that a benchmark must reproduce."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from gradood._io.atomic import write
from gradood._io.json import json_text
from gradood._io.records import decode
from gradood.bench._record_figures import FigureRow, figure
from gradood.bench.record import Record, RunRecord
from gradood.errors import ConfigError, suggest
from gradood.metrics import METRICS

__all__ = ["ExpectedFigures", "Figure", "Miss", "expected_of", "read_expected", "write_expected"]

_FORMAT, _VERSION = "gradood-expected", 1


@dataclass(frozen=True, kw_only=True, slots=True)
class Figure:
    """One figure and where it may lie.

    Attributes:
        method: its label in the record.
        metric: as in `gradood.metrics.Summary`.
        low: the least it may be.
        high: the most it may be.
        ood: the set; or
        group: the mean over sets: all, near or far.
        run: the network's label; None for every one in the record.
    """

    method: str
    metric: str
    low: float
    high: float
    ood: str | None = None
    group: str | None = None
    run: str | None = None

    def __post_init__(self) -> None:
        if self.metric not in METRICS:
            raise ConfigError(f"no metric {self.metric!r}; {suggest(self.metric, METRICS)}")
        if (self.ood is None) == (self.group is None):
            raise ConfigError(f"ood={self.ood!r}, group={self.group!r}; expected one of the two.")
        if not self.low <= self.high:
            raise ConfigError(f"low={self.low}, high={self.high}; expected low ≤ high.")

    @property
    def place(self) -> str:
        """The set, or the mean, in words."""
        return f"the mean over {self.group}" if self.ood is None else self.ood


@dataclass(frozen=True, slots=True)
class Miss:
    """A figure that left its interval.

    Attributes:
        figure: what was expected.
        run: of which network.
        found: the value; None if the record has none.
    """

    figure: Figure
    run: str
    found: float | None

    def __str__(self) -> str:
        f = self.figure
        found = "is missing" if self.found is None else f"is {self.found:.6g}"
        where = f"{self.run}: {f.method} on {f.place}: {f.metric}"
        return f"{where} {found}; expected {f.low:.6g} to {f.high:.6g}"

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self.figure) | {"run": self.run, "found": self.found}


@dataclass(frozen=True, kw_only=True, slots=True)
class ExpectedFigures:
    """What a benchmark must reproduce.

    Attributes:
        format: ``gradood-expected``.
        version: of the format.
        suite: name of the suite.
        suite_version: its version.
        sizes: images by set, ``id`` for the in-distribution test set; those not named may be any.
        figures: at least one.
    """

    format: str
    version: int
    suite: str
    suite_version: int
    figures: tuple[Figure, ...]
    sizes: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if (self.format, self.version) != (_FORMAT, _VERSION):
            raise ConfigError(
                f"format {self.format!r}, version {self.version}; expected {_FORMAT!r}, {_VERSION}."
            )
        if not self.figures:
            raise ConfigError("it has no figures; expected at least one.")

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON; what is None is left out."""
        figures = [{k: v for k, v in asdict(f).items() if v is not None} for f in self.figures]
        return {name: getattr(self, name) for name in self.__slots__} | {"figures": figures}

    def check_suite(self, name: str, version: int) -> None:
        """Refuse another suite.

        Raises:
            ConfigError: it is another, or of another version.
        """
        if (name, version) != (self.suite, self.suite_version):
            raise ConfigError(
                f"the record is of suite {name!r}, version {version}; expected {self.suite!r}, "
                f"version {self.suite_version}: run that suite, or write the expected figures anew."
            )

    def check(self, record: Record) -> list[Miss]:
        """The figures of a record that are not as expected.

        Args:
            record: of a run.

        Returns:
            Those outside their interval, and those that are not in the record.

        Raises:
            ConfigError: the record is of another suite, of other sizes, or has no such run.
        """
        self.check_suite(record.suite.name, record.suite.version)
        sizes = record.suite.sizes()
        for name, size in self.sizes.items():
            if sizes.get(name) != size:
                raise ConfigError(
                    f"the record has {sizes.get(name, 'no')} images of {name}; expected {size}: "
                    "run with the same sets and limits."
                )
        runs = {run.run: run for run in record.runs}
        misses: list[Miss] = []
        for expected in self.figures:
            if expected.run is not None and expected.run not in runs:
                raise ConfigError(f"no run {expected.run!r}; {suggest(expected.run, runs)}")
            for name in runs if expected.run is None else (expected.run,):
                value = _find(runs[name], expected)
                if value is None or not expected.low <= value <= expected.high:
                    misses.append(Miss(expected, name, value))
        return misses


def expected_of(
    record: Record,
    *,
    metrics: Sequence[str] = ("auroc", "fpr_ood_at_tpr_id95"),
    margin: float = 0.005,
) -> ExpectedFigures:
    """What a record holds, as what later ones must reproduce.

    The same images give the same figures up to rounding on other machines, so the intervals are
    narrow: they allow for `margin`, or for two images that change sides, whichever is more.

    Args:
        record: of a run.
        metrics: to expect, of every run, method and set.
        margin: to either side.

    Raises:
        ConfigError: `margin` is negative, or there is nothing in the record.
    """
    if not margin >= 0:
        raise ConfigError(f"margin={margin!r}; expected a number ≥ 0, such as 0.005.")
    figures: list[Figure] = []
    for run in record.runs:
        for row in run.rows:
            slack = max(margin, 2 / min(row.n_id, row.n_ood))
            for metric in metrics:
                value = figure(row, metric)
                low, high = max(0.0, value - slack), min(1.0, value + slack)
                figures.append(
                    Figure(
                        run=run.run,
                        method=row.method,
                        ood=row.ood,
                        metric=metric,
                        low=round(low, 6),
                        high=round(high, 6),
                    )
                )
    return ExpectedFigures(
        format=_FORMAT,
        version=_VERSION,
        suite=record.suite.name,
        suite_version=record.suite.version,
        sizes=record.suite.sizes(),
        figures=tuple(figures),
    )


def write_expected(path: str | Path, expected: ExpectedFigures) -> None:
    """Replace a JSON file by what is expected.

    Raises:
        OSError: it cannot be written; what was there before is unchanged.
    """
    write(path, json_text(expected.to_dict()))


def read_expected(path: str | Path) -> ExpectedFigures:
    """What is expected, from a JSON file.

    Raises:
        ConfigError: it cannot be read, or has unknown, missing or impossible values.
    """
    try:
        found = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"{str(path)!r} cannot be read ({error}); expected JSON, as gradood bench --expect "
            "writes it."
        ) from error
    return decode(ExpectedFigures, found, str(path))


def _find(run: RunRecord, expected: Figure) -> float | None:
    """The value of an expected figure in a run; None if it has none."""
    rows: list[tuple[str, FigureRow]] = [(row.ood, row) for row in run.rows]
    if expected.ood is None:
        rows = [(row.group, row) for row in run.means]
    for place, row in rows:
        if (row.method, place) == (expected.method, expected.ood or expected.group):
            return figure(row, expected.metric)
    return None
