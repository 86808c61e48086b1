"""Detectors compared on one model: one pass over each data set for all of them together."""

import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from torch import Tensor, nn

from gradood._engine.batches import Data, Shard, shards_of
from gradood._engine.binding import (
    check_classes,
    no_detector_left,
    observed,
    plan_detectors,
    preprocessed,
)
from gradood._engine.detector_set import DetectorSet
from gradood._engine.forms import InputForm, ModelInput
from gradood._engine.readings import ReadingCache
from gradood._engine.roster import roster
from gradood._engine.scoring import score_shards
from gradood.bench._data_sets import Sets, fitted, told_fit
from gradood.bench._known_classes import accuracy, checked_accuracy, warn_of_classes
from gradood.bench._record_inputs import WarningRecord
from gradood.bench._warning_log import WarningLog
from gradood.calibration.results import BatchScores
from gradood.detectors.base import Detector, Plan
from gradood.errors import DataError
from gradood.monitor._shifted import check_names, shifted_rows
from gradood.monitor.evaluation import Table, table_of
from gradood.taps import Inputs, Link, Network, Output, device_of, unwrap

__all__ = ["Comparison", "Sets", "compare"]

_WORK = {"fit": "learning from", "metrics": "computing"}


@dataclass(frozen=True, eq=False, slots=True)
class Comparison:
    """Figures and scores of every method on every set.

    Attributes:
        table: every method that ran, on every set.
        known: method → scores of the in-distribution data.
        unknown: set → method → scores.
        detector_set: the detectors that ran, by their name in the table, and what they learned.
        classes: the model's.
        id_accuracy: share of `Sets.id` that the model classifies correctly; None without labels.
        left_out: why a method did not run, by name.
        plans: what each method reads; with its notes and caveats.
        seconds: time spent: ``fit``, ``id``, each out-of-distribution set by ``ood NAME``, and
            ``metrics``.
        warnings: that were given on the way.
        shifted: shifted set → method → scores.
        shifted_accuracy: shifted set → share that the model classifies correctly; None without
            labels.
    """

    table: Table
    known: Mapping[str, Tensor]
    unknown: Mapping[str, Mapping[str, Tensor]]
    detector_set: DetectorSet
    classes: int
    id_accuracy: float | None
    left_out: Mapping[str, str]
    plans: Mapping[str, Plan]
    seconds: Mapping[str, float]
    warnings: tuple[WarningRecord, ...] = ()
    shifted: Mapping[str, Mapping[str, Tensor]] = field(default_factory=dict)
    shifted_accuracy: Mapping[str, float | None] = field(default_factory=dict)

    @property
    def detectors(self) -> Mapping[str, Detector]:
        """Those that ran."""
        return self.detector_set.detectors

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {
            "classes": self.classes,
            "id_accuracy": self.id_accuracy,
            "methods": {
                name: {
                    "method": detector.name,
                    "options": detector.options(),
                    "notes": self.plans[name].notes,
                    "caveats": self.plans[name].caveats,
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
    example: Inputs,
    *,
    required: Collection[str] = (),
    level: float | None = 0.95,
    cache: ReadingCache | None = None,
    told: Callable[[str], None] = lambda text: None,
    output: Output | None = None,
    model_input: ModelInput | None = None,
    link: Link | None = None,
) -> Comparison:
    """Fit the detectors that learn, score every set, and measure.

    A detector that cannot run is left out with the reason, unless it is required. Warns if the
    accuracy is near chance, or one of fit and in-distribution data lacks classes of the other.

    Args:
        model: any classifier.
        detectors: by their name in the table.
        sets: the data.
        example: inputs (batch ≥ 1, …) of the in-distribution data, to try the detectors on.
        required: names of detectors that must not be left out.
        level: coverage of the confidence intervals; None for none.
        cache: where readings, states and scores of shards are kept, or None.
        told: called with a line at the beginning of each part of the work.
        output, model_input, link: as for `gradood.Monitor`; of shards, `model_input` is their own.

    Raises:
        TapError: the model cannot be read at all, or not by a required detector.
        DataError: no set of outliers, labels lie outside the model's classes, or a set is unusable.
        ConfigError: no detector is left, or one has a name that files cannot hold.

    Cost: at most one pass over each set, and some passes of the example.
    """
    _check_sets(sets)
    network = _observed(model, example, output, link, sets)
    sets = sets.of_form(InputForm(model, model_input, link))
    bound = _bound(network, roster(detectors)[0], sets, example, required, cache)
    clock, noted = _Clock(told), WarningLog()
    with clock("fit"), noted("fit"):
        bound = fitted(bound, sets)
    with clock("id"), noted("id"):
        known, bound = score_shards(bound, shards_of(sets.id), what="id")
        # Before the outliers, as whoever is warned may not want to wait for them.
        share = checked_accuracy(known.label, sets.classes(link), network.classes)
    if network.link == "softmax":
        classes = known.label if sets.id_labels is None else sets.id_labels
        warn_of_classes(sets.fit_labels, classes, network.classes, noted)
    shifted, bound = _scored("shifted", sets.shifted, bound, clock, noted)
    unknown, bound = _scored("ood", sets.ood, bound, clock, noted)
    with clock("metrics"):
        compared = _compared(bound, known, unknown, shifted, level)
    right = {name: accuracy(b.label, sets.classes(link, name)) for name, b in shifted.items()}
    plans = {n: told_fit(plan, compared.detectors[n], sets) for n, plan in compared.plans.items()}
    facts = {"id_accuracy": share, "shifted_accuracy": right, "plans": plans}
    return replace(compared, **facts, warnings=tuple(noted.records), seconds=clock.seconds)


def _check_sets(sets: Sets) -> None:
    """Refuse a comparison without outliers, or names that stand for two sets."""
    if not sets.ood:
        raise DataError("no out-of-distribution set was given; give at least one, by name.")
    check_names(sets.shifted, sets.ood)


def _observed(
    model: nn.Module, example: Inputs, output: Output | None, link: Link | None, sets: Sets
) -> Network:
    """The network, with what is known of how images become its inputs."""
    example = example.to(device_of(unwrap(model)))
    network = observed(model, example, output=output, link=link or "softmax")
    return preprocessed(network, sets.preprocess)


def _scored(
    role: str,
    sets: Mapping[str, Data | Sequence[Shard]],
    bound: DetectorSet,
    clock: "_Clock",
    noted: WarningLog,
) -> tuple[dict[str, BatchScores], DetectorSet]:
    """Scores by set, and the detectors that are left."""
    batches: dict[str, BatchScores] = {}
    for name, data in sets.items():
        with clock(f"{role} {name}"), noted(f"{role} {name}"):
            batches[name], bound = score_shards(bound, shards_of(data), what=name)
    return batches, bound


def _compared(
    bound: DetectorSet,
    known: BatchScores,
    unknown: Mapping[str, BatchScores],
    shifted: Mapping[str, BatchScores],
    level: float | None,
) -> Comparison:
    """The figures of the detectors that are left."""
    methods = list(bound.detectors)
    if not methods:
        raise no_detector_left(bound.left_out)

    def scores(batch: BatchScores) -> dict[str, Tensor]:
        return {method: batch.scores[method] for method in methods}

    inside = scores(known)
    outside = {name: scores(batch) for name, batch in unknown.items()}
    moved = {name: scores(batch) for name, batch in shifted.items()}
    rates = [
        row
        for name, given in moved.items()
        for row in shifted_rows(name, inside, given, level=level)
    ]
    return Comparison(
        table=table_of(inside, outside, moved, rates, level=level),
        known=inside,
        unknown=outside,
        shifted=moved,
        detector_set=bound,
        classes=bound.binding.network.classes,
        id_accuracy=None,
        left_out=bound.left_out,
        plans={name: bound.binding.plans[name] for name in methods},
        seconds={},
    )


def _bound(
    network: Network,
    detectors: Mapping[str, Detector],
    sets: Sets,
    example: Inputs,
    required: Collection[str],
    cache: ReadingCache | None,
) -> DetectorSet:
    """The detectors that can read the model, bound to it."""
    moved = ((f"shifted ID {name}", labels) for name, labels in sets.shifted_labels.items())
    if network.link == "softmax":
        for name, labels in (("fit", sets.fit_labels), ("ID", sets.id_labels), *moved):
            check_classes(name, labels, network.classes)
    binding = plan_detectors(
        network,
        detectors,
        example,
        fit=sets.fit is not None,
        labels=sets.fit_labels is not None,
        required=required,
    )
    binding.warn()
    return DetectorSet.of(binding, detectors, required=required, cache=cache)


@dataclass(frozen=True, slots=True)
class _Clock:
    """Seconds by name, in the order measured."""

    told: Callable[[str], None]
    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        self.told(
            f"{_WORK.get(name, 'scoring')} {name.removeprefix('ood ').removeprefix('shifted ')} …"
        )
        start = time.perf_counter()
        yield
        self.seconds[name] = time.perf_counter() - start
