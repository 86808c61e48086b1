"""Benchmark run: networks × methods × data sets, from files to a record."""

import math
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from gradood._engine.roster import USABLE, usable_name
from gradood.bench._cost import costs
from gradood.bench._leakage import warn_of_overlap, warn_of_twins
from gradood.bench._record_figures import ComparisonRow, CostRow
from gradood.bench._record_inputs import HyperParameters, MethodRecord, ModelRecord, SettingsRecord
from gradood.bench._run_figures import run_figures, run_ranking, seed_spreads
from gradood.bench._suite_record import suite_record
from gradood.bench._tuning import FIXED, Choice, choose
from gradood.bench._unusable import tell_unusable
from gradood.bench._warning_log import WarningLog
from gradood.bench.comparison import Comparison, compare
from gradood.bench.config import Settings
from gradood.bench.entries import LoadedEntry, open_all
from gradood.bench.folder import provenance
from gradood.bench.method_args import Selection, select
from gradood.bench.record import Record, RunRecord
from gradood.errors import ConfigError, LabelMismatchWarning
from gradood.evidence import own_pass

__all__ = ["NetworkRun", "Networks", "Outcome", "run", "run_network"]

_COSTED = 32
"""Images that costs are measured on."""


@dataclass(frozen=True, eq=False, slots=True)
class Outcome:
    """Result of a benchmark run.

    Attributes:
        record: every figure.
        scores: run → set (``"id"`` for the in-distribution one) → method → (n,) scores.
    """

    record: Record
    scores: Mapping[str, Mapping[str, Mapping[str, Tensor]]]


@dataclass(frozen=True, eq=False, slots=True)
class NetworkRun:
    """One network's part of a run.

    Attributes:
        record: its figures, without the warnings of the data.
        comparisons: of pairs of methods.
        scores: as of `Outcome`.
    """

    record: RunRecord
    comparisons: tuple[ComparisonRow, ...]
    scores: Mapping[str, Mapping[str, Tensor]]


Networks = Callable[[Settings, Sequence[LoadedEntry]], Sequence[NetworkRun]]
"""From a run and its networks to the part of each, in their order."""


def run(
    settings: Settings,
    *,
    command: str = "",
    told: Callable[[str], None] = lambda line: None,
    networks: Networks | None = None,
) -> Outcome:
    """Compare the methods on every network, in one pass over each data set.

    Everything that can be wrong with the settings is found before the first pass.

    Args:
        settings: what to compare on what.
        command: how to do the same again, for the record.
        told: called with a line of progress.
        networks: what runs them; None for one after the other, here.

    Raises:
        ConfigError, UnknownNameError: a setting is wrong.
        DataError: data is absent, broken, not as the suite says, or has labels that the model does
            not know.
        TapError: a model cannot be read.
    """
    selection = select(settings.methods, settings.options)
    settings = _without_unused_data(settings, selection)
    entries, noted = open_all(settings), WarningLog()
    tell_unusable(entries[0].parts, told)
    with noted("data"):
        warn_of_twins(entries)
    suite = suite_record(settings, entries[0])
    with noted("data"):
        chosen = settings.hyper_parameters == "id-only"
        warn_of_overlap(entries[0], chosen=chosen, fitted=selection.held_out)
    parts = [] if networks is None else [*networks(settings, entries)]
    for one in entries if networks is None else ():
        parts.append(run_network(one, settings, selection, _named(one, entries, told)))
    runs = [
        replace(one.record, warnings=(*noted.records, *(one.record.warnings or ())) or None)
        for one in parts
    ]
    record = Record(
        command=command,
        **provenance(),
        suite=suite,
        settings=SettingsRecord(**settings.to_dict()),
        hyper_parameters=_hyper_parameters(settings, runs),
        runs=tuple(runs),
        seeds=seed_spreads(runs),
        comparisons=tuple(row for one in parts for row in one.comparisons),
        ranking=run_ranking(runs),
    )
    return Outcome(record, {one.record.run: one.scores for one in parts})


def _named(
    entry: LoadedEntry, entries: Sequence[LoadedEntry], told: Callable[[str], None]
) -> Callable[[str], None]:
    """The same; where there are several networks, it is told which one is run."""
    if len(entries) > 1:
        weights = ", ".join(map(str, entry.subject.weights)) or "its own weights"
        told(f"{entry.model.run}: {entry.subject.spec}, {weights}")
    return told


def run_network(
    entry: LoadedEntry, settings: Settings, selection: Selection, told: Callable[[str], None]
) -> NetworkRun:
    """One network's part; depends on no other network.

    Args:
        entry: the network and its data.
        settings: of the run.
        selection: the methods.
        told: called with a line of progress.
    """
    name = entry.model.run
    comparison, choice = _compared(entry, settings, selection, told)
    scores = {"id": dict(comparison.known)}
    for sets in (comparison.shifted, comparison.unknown):
        scores |= {own: dict(methods) for own, methods in sets.items()}
    told("intervals and comparisons …")
    figures, seconds = run_figures(comparison, settings)
    if settings.costs:
        told("time and memory of each method …")
    facts = _facts(entry, comparison, choice, settings, seconds)
    facts["warnings"] = tuple(comparison.warnings) or None
    pairs = tuple(ComparisonRow(run=name, **row) for row in figures.comparisons)
    return NetworkRun(RunRecord(**facts, **figures.parts()), pairs, scores)


def _hyper_parameters(settings: Settings, runs: Sequence[RunRecord]) -> HyperParameters:
    kind = settings.hyper_parameters
    how = FIXED if kind == "fixed" else str(runs[0].hyper_parameters)
    return HyperParameters(kind=kind, how=how)


def _without_unused_data(settings: Settings, selection: Selection) -> Settings:
    """The settings; without training data where nothing is learned or chosen on it.

    Raises:
        ConfigError: a method has a name that a table cannot hold.
    """
    unusable = [name for name in selection.detectors if not usable_name(name)]
    if unusable:
        raise ConfigError(f"methods {unusable}; expected {USABLE}.")
    learning = any(detector.learns for detector in selection.detectors.values())
    # To choose on, training images are needed even if no method learns from them.
    if settings.fit_limit == 0 or not (learning or settings.hyper_parameters == "id-only"):
        return replace(settings, suite=settings.suite.without_fit())
    return settings


def _compared(
    entry: LoadedEntry, settings: Settings, selection: Selection, told: Callable[[str], None]
) -> tuple[Comparison, Choice]:
    example = entry.example
    cache = entry.kept(settings, example)
    choice = Choice(selection.detectors)
    if settings.hyper_parameters == "id-only":
        choice = choose(entry, settings, selection, cache)
    comparison = compare(
        entry.subject.model,
        choice.detectors,
        entry.sets(settings),
        example,
        required=selection.required,
        level=None,
        cache=cache,
        told=told,
        output=entry.model.output,
        link=entry.model.link,
    )
    _warn_of_accuracy(entry, comparison)
    return comparison, choice


def _warn_of_accuracy(entry: LoadedEntry, comparison: Comparison) -> None:
    """Warn where the measured accuracy is far from what was measured with these weights before."""
    measured, stated = comparison.id_accuracy, entry.subject.published_accuracy
    if measured is None or stated is None:
        return
    expected = 0.01 + 3.3 * math.sqrt(stated * (1 - stated) / max(1, len(entry.id)))
    if abs(measured - stated) > expected:
        warnings.warn(
            f"{entry.model.run} gets {measured:.2%} of the ID images right, where {stated:.2%} of "
            "its own test set was measured with these weights: other images, labels or "
            "preprocessing than it was trained with, so that figures are of another classifier.",
            LabelMismatchWarning,
            stacklevel=5,
        )


def _facts(
    entry: LoadedEntry,
    comparison: Comparison,
    choice: Choice,
    settings: Settings,
    seconds: Mapping[str, float],
) -> dict[str, Any]:
    """One network's part of the record, without its figures."""
    clock = time.perf_counter()
    cost = costs(comparison.detector_set, entry.example[:_COSTED]) if settings.costs else {}
    seconds = {**seconds, "costs": time.perf_counter() - clock}
    subject = entry.subject.to_dict()
    return {
        "run": entry.model.run,
        "label": entry.model.label,
        "seed": entry.model.seed,
        "subject": ModelRecord(kind=subject.pop("class"), **subject),
        "classes": comparison.classes,
        "id_accuracy": comparison.id_accuracy,
        "methods": {name: _method(name, comparison, choice) for name in comparison.detectors},
        "left_out": dict(comparison.left_out),
        "hyper_parameters": choice.how,
        "cost": {name: CostRow(pass_kind=row.pop("pass"), **row) for name, row in cost.items()},
        "seconds": {name: round(value, 3) for name, value in seconds.items()},
    }


def _method(name: str, comparison: Comparison, choice: Choice) -> MethodRecord:
    detector, plan = comparison.detectors[name], comparison.plans[name]
    own = any(map(own_pass, (*plan.reads, *plan.fit_reads)))
    return MethodRecord(
        method=detector.name,
        title=detector.title,
        paper=detector.paper,
        options=detector.options(),
        notes=tuple(plan.notes),
        caveats=tuple(plan.caveats),
        pass_kind="own" if own else "shared",
        fits=detector.learns,
        chosen_by="id-only" if name in choice.tried else "fixed",
        tried=choice.tried.get(name),
    )
