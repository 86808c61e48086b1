"""Detectors compared on one model: one pass over each data set for all of them together."""

import time
import warnings
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, ClassVar, final

import torch
from torch import Tensor, nn

from gradood.batches import Data
from gradood.bench.survey import check_classes, survey
from gradood.binding import observed
from gradood.detectors.base import Detector, Plan, State
from gradood.errors import DataError, GradoodWarning
from gradood.evaluation import Table, rows_of
from gradood.evidence import LOGITS, Evidence
from gradood.monitor import Monitor
from gradood.taps import Network, device_of, unwrap

__all__ = ["Comparison", "Sets", "compare"]

_PREDICTED = "(predicted class)"


@dataclass(frozen=True, eq=False, slots=True)
class Sets:
    """The data of a comparison.

    Attributes:
        id: in-distribution test data, not used in the fit.
        ood: out-of-distribution sets by name.
        fit: in-distribution training data, or None; then detectors that learn are left out.
        id_labels: (n,) true classes of `id`, or None.
        fit_labels: (m,) true classes of `fit`, or None; then those that need them are left out.
    """

    id: Data
    ood: Mapping[str, Data]
    fit: Data | None = None
    id_labels: Tensor | None = None
    fit_labels: Tensor | None = None


@dataclass(frozen=True, slots=True)
class Comparison:
    """What came out.

    Attributes:
        table: every method that ran, on every set.
        detectors: those that ran, with their options, by their name in the table.
        classes: the model's.
        id_accuracy: share of `Sets.id` that the model classifies correctly; None without labels.
        left_out: why a method did not run, by name.
        notes: choices that methods made on this model, by name.
        caveats: why a score may mean little here, by name.
        seconds: time spent: ``fit``, ``id``, and each out-of-distribution set by ``ood NAME``.
    """

    table: Table
    detectors: Mapping[str, Detector]
    classes: int
    id_accuracy: float | None
    left_out: Mapping[str, str]
    notes: Mapping[str, tuple[str, ...]]
    caveats: Mapping[str, tuple[str, ...]]
    seconds: Mapping[str, float]

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {
            "classes": self.classes,
            "id_accuracy": self.id_accuracy,
            "methods": {
                name: {
                    "method": detector.name,
                    "options": detector.options(),
                    "notes": self.notes[name],
                    "caveats": self.caveats[name],
                }
                for name, detector in self.detectors.items()
            },
            "left_out": dict(self.left_out),
            **self.table.to_dict(),
            "seconds": {name: round(value, 3) for name, value in self.seconds.items()},
        }


def compare(
    model: nn.Module,
    detectors: Mapping[str, Detector],
    sets: Sets,
    example: Tensor,
    *,
    required: Collection[str] = (),
    level: float | None = 0.95,
) -> Comparison:
    """Fit the detectors that learn, score every set, and measure.

    A detector that cannot read this model, or lacks the data it learns from, is left out with the
    reason, unless it is required. Warns if the model's accuracy is near chance.

    Args:
        model: any classifier.
        detectors: by their name in the table.
        sets: the data.
        example: (batch ≥ 1, …) of the in-distribution data, to try the detectors on.
        required: names of detectors that must not be left out.
        level: coverage of the confidence intervals; None for none.

    Raises:
        TapError: the model cannot be read at all, or not by a required detector.
        DataError: no set of outliers, labels lie outside the model's classes, or a set is unusable.
        ConfigError: no detector is left.

    Cost:
        One pass over each set, and some forward and backward passes of the example.
    """
    if not sets.ood:
        raise DataError("no out-of-distribution set was given; give at least one, by name.")
    network = observed(model, example.to(device_of(unwrap(model))))
    for name, labels in (("fit", sets.fit_labels), ("ID", sets.id_labels)):
        check_classes(name, labels, network.classes)
    found = survey(
        network,
        detectors,
        example,
        fit=sets.fit is not None,
        labels=sets.fit_labels is not None,
        required=required,
    )
    chosen = {name: detectors[name] for name in found.plans}
    monitor = Monitor(model, {**chosen, _PREDICTED: _Prediction()})
    scores = _Scores.of(monitor, sets, network.classes)
    return Comparison(
        table=scores.table(list(chosen), level),
        detectors=chosen,
        classes=network.classes,
        id_accuracy=scores.accuracy,
        left_out=found.left_out,
        notes={name: plan.notes for name, plan in found.plans.items()},
        caveats={name: plan.caveats for name, plan in found.plans.items()},
        seconds=scores.seconds,
    )


@dataclass(frozen=True, eq=False, slots=True)
class _Scores:
    """Scores by method, of the ID data and of each set of outliers."""

    known: dict[str, Tensor]
    unknown: dict[str, dict[str, Tensor]]
    accuracy: float | None
    seconds: dict[str, float]

    @staticmethod
    def of(monitor: Monitor, sets: Sets, classes: int) -> "_Scores":
        clock = _Clock()
        with clock("fit"):
            if sets.fit is not None and any(d.learns for d in monitor.detectors.values()):
                monitor.fit(sets.fit)
        with clock("id"):
            known = monitor.score(sets.id)
        # Before the outliers, as whoever is warned may not want to wait for them.
        accuracy = _accuracy(known[_PREDICTED], sets.id_labels, classes)
        unknown: dict[str, dict[str, Tensor]] = {}
        for name, data in sets.ood.items():
            with clock(f"ood {name}"):
                unknown[name] = monitor.score(data)
        return _Scores(known, unknown, accuracy, clock.seconds)

    def table(self, methods: list[str], level: float | None) -> Table:
        known = {method: self.known[method] for method in methods}
        rows = [
            row
            for name, unknown in self.unknown.items()
            for row in rows_of(name, known, unknown, level=level)
        ]
        return Table(tuple(sorted(rows, key=lambda row: methods.index(row.method))))


def _accuracy(predicted: Tensor, labels: Tensor | None, classes: int) -> float | None:
    if labels is None:
        return None
    if len(labels) != len(predicted):
        raise DataError(
            f"the ID data has {len(predicted)} samples and {len(labels)} labels; expected as many."
        )
    share = float((predicted == labels).double().mean())
    if share < 1.5 / classes:
        warnings.warn(
            f"the model classifies {share:.1%} of the ID data correctly, where chance is "
            f"{1 / classes:.1%}: the weights, the preprocessing or the order of the classes are "
            "not those it was trained with, and the table means little.",
            GradoodWarning,
            stacklevel=4,
        )
    return share


@dataclass(frozen=True, slots=True)
class _Clock:
    """Seconds by name, in the order measured."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.seconds[name] = time.perf_counter() - start


@final
class _Prediction(Detector):
    """Not a score: the predicted class, so that the accuracy needs no pass of its own."""

    name: ClassVar[str] = "predicted-class"
    title: ClassVar[str] = "The predicted class."
    paper: ClassVar[str] = ""
    needs: ClassVar[tuple[str, ...]] = ("logits",)
    cost: ClassVar[str] = "one forward"
    fails_when: ClassVar[str] = ""

    def plan(self, network: Network, probe: Tensor) -> Plan:
        return Plan((LOGITS,))

    def measure(self, evidence: Evidence, state: State) -> Tensor:
        return evidence.logits.argmax(1).to(torch.float64)
