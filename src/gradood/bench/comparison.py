"""Detectors compared on one model: one pass over each data set for all of them together."""

import time
import warnings
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from gradood.bench.ensemble import Scores, Team
from gradood.bench.readings import Gathering
from gradood.bench.shards import Shard, whole
from gradood.detectors.base import Detector, Plan
from gradood.engine.batches import Data
from gradood.engine.binding import Binding, observed
from gradood.engine.compatibility import check_classes, survey
from gradood.engine.reader import Reader
from gradood.errors import ConfigError, DataError, GradoodWarning, MeaninglessScoreWarning
from gradood.io.cache import Cache
from gradood.monitor.evaluation import Row, Table, rows_of
from gradood.taps import device_of, unwrap

__all__ = ["Comparison", "Kept", "Sets", "compare"]


@dataclass(frozen=True, eq=False, slots=True)
class Sets:
    """The data of a comparison: batches of one's own, or shards whose readings can be kept.

    Attributes:
        id: in-distribution test data, not used in the fit.
        ood: out-of-distribution sets by name.
        fit: in-distribution training data, or None; then detectors that learn are left out.
        id_labels: (n,) true classes of `id`, or None.
        fit_labels: (m,) true classes of `fit`, or None; then those that need them are left out.
    """

    id: Data | Sequence[Shard]
    ood: Mapping[str, Data | Sequence[Shard]]
    fit: Data | Sequence[Shard] | None = None
    id_labels: Tensor | None = None
    fit_labels: Tensor | None = None


@dataclass(frozen=True, slots=True)
class Kept:
    """Where readings are kept.

    Attributes:
        cache: the folder.
        identity: what they depend on besides the data; see `Gathering`.
    """

    cache: Cache
    identity: Mapping[str, Any]


@dataclass(frozen=True, eq=False, slots=True)
class Comparison:
    """What came out.

    Attributes:
        table: every method that ran, on every set.
        known: method → scores of the in-distribution data.
        unknown: set → method → scores.
        team: the detectors that ran, with their options, by their name in the table, and what they
            learned.
        classes: the model's.
        id_accuracy: share of `Sets.id` that the model classifies correctly; None without labels.
        left_out: why a method did not run, by name.
        plans: what each method reads; with its notes and caveats.
        seconds: time spent: ``fit``, ``id``, each out-of-distribution set by ``ood NAME``, and
            ``metrics``.
    """

    table: Table
    known: Mapping[str, Tensor]
    unknown: Mapping[str, Mapping[str, Tensor]]
    team: Team
    classes: int
    id_accuracy: float | None
    left_out: Mapping[str, str]
    plans: Mapping[str, Plan]
    seconds: Mapping[str, float]

    @property
    def detectors(self) -> Mapping[str, Detector]:
        """Those that ran."""
        return self.team.detectors

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
    example: Tensor,
    *,
    required: Collection[str] = (),
    level: float | None = 0.95,
    kept: Kept | None = None,
) -> Comparison:
    """Fit the detectors that learn, score every set, and measure.

    A detector that cannot read this model, or lacks the data it learns from, or refuses them, is
    left out with the reason, unless it is required. Warns if the model's accuracy is near chance.

    Args:
        model: any classifier.
        detectors: by their name in the table.
        sets: the data.
        example: (batch ≥ 1, …) of the in-distribution data, to try the detectors on.
        required: names of detectors that must not be left out.
        level: coverage of the confidence intervals; None for none.
        kept: where readings of shards are kept, or None.

    Raises:
        TapError: the model cannot be read at all, or not by a required detector.
        DataError: no set of outliers, labels lie outside the model's classes, or a set is unusable.
        ConfigError: no detector is left.

    Cost:
        At most one pass over each set, and some forward and backward passes of the example.
    """
    if not sets.ood:
        raise DataError("no out-of-distribution set was given; give at least one, by name.")
    team, left_out = _team(model, detectors, sets, example, required, kept)
    clock = _Clock()
    with clock("fit"):
        if sets.fit is not None:
            team.fit(_shards(sets.fit, labels=True))
    with clock("id"):
        known = team.score(_shards(sets.id), what="id")
    # Before the outliers, as whoever is warned may not want to wait for them.
    classes = team.gathering.binding.network.classes
    accuracy = _accuracy(known.predicted, sets.id_labels, classes)
    unknown: dict[str, Scores] = {}
    for name, data in sets.ood.items():
        with clock(f"ood {name}"):
            unknown[name] = team.score(_shards(data), what=name)
    left_out |= team.left_out
    if not team.detectors:
        raise _none_left(left_out)
    with clock("metrics"):
        table = _table(list(team.detectors), known, unknown, level)
    return Comparison(
        table=table,
        known={name: known.by_method[name] for name in team.detectors},
        unknown={
            name: {method: scores.by_method[method] for method in team.detectors}
            for name, scores in unknown.items()
        },
        team=team,
        classes=classes,
        id_accuracy=accuracy,
        left_out=left_out,
        plans={name: team.gathering.binding.plans[name] for name in team.detectors},
        seconds=clock.seconds,
    )


def _team(
    model: nn.Module,
    detectors: Mapping[str, Detector],
    sets: Sets,
    example: Tensor,
    required: Collection[str],
    kept: Kept | None,
) -> tuple[Team, dict[str, str]]:
    """The detectors that can read the model, bound to it; and why the others cannot."""
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
    reader = Reader(model, chosen, None)
    reader.binding = Binding(network, dict(found.plans))
    for caveat in reader.binding.caveats:
        warnings.warn(caveat, MeaninglessScoreWarning, stacklevel=3)
    cache, identity = (None, None) if kept is None else (kept.cache, kept.identity)
    return Team(Gathering(reader, cache, identity), chosen, required), dict(found.left_out)


def _shards(data: Data | Sequence[Shard], *, labels: bool = False) -> list[Shard]:
    if isinstance(data, list | tuple) and data and all(isinstance(one, Shard) for one in data):
        return list(data)
    return whole(data, labels=labels)


def _table(
    methods: list[str], known: Scores, unknown: Mapping[str, Scores], level: float | None
) -> Table:
    own = {method: known.by_method[method] for method in methods}
    rows: list[Row] = []
    for name, scores in unknown.items():
        rows += rows_of(name, own, scores.by_method, level=level)
    return Table(tuple(sorted(rows, key=lambda row: methods.index(row.method))))


def _none_left(left_out: Mapping[str, str]) -> ConfigError:
    reasons = "; ".join(f"{name}: {reason}" for name, reason in left_out.items())
    return ConfigError(f"no detector can be run on this model and data. {reasons}")


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
            stacklevel=3,
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
