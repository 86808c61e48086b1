"""The arena: networks × methods × data sets, from files to a record."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from gradood.bench.comparison import Comparison, compare
from gradood.bench.config import Settings
from gradood.bench.cost import costs
from gradood.bench.entries import Opened, open_all, opened_sets
from gradood.bench.leakage import warn_of_overlap, warn_of_twins
from gradood.bench.method_args import Selection, select
from gradood.bench.provenance import provenance
from gradood.bench.record import ArenaRecord
from gradood.bench.suite import USABLE, usable_name
from gradood.bench.tuning import FIXED, Choice, choose
from gradood.errors import ConfigError
from gradood.evidence import own_pass
from gradood.metrics import Analysis, comparisons, over_seeds, ranking

__all__ = ["Outcome", "run"]

_COSTED = 32
"""Images that costs are measured on."""
_COMPARED = ("auroc", "fpr_ood_at_tpr_id95")
"""Metrics by which methods are compared in pairs."""


@dataclass(frozen=True, eq=False, slots=True)
class Outcome:
    """What came out.

    Attributes:
        record: every figure.
        scores: run → set (``"id"`` for the known) → method → (n,) scores.
    """

    record: ArenaRecord
    scores: Mapping[str, Mapping[str, Mapping[str, Tensor]]]


def run(
    settings: Settings, *, command: str = "", told: Callable[[str], None] = lambda line: None
) -> Outcome:
    """Compare the methods on every network, in one pass over each data set.

    Everything that can be wrong with the settings is found before the first pass.

    Args:
        settings: what to compare on what.
        command: how to do the same again, for the record.
        told: called with a line for whoever waits.

    Raises:
        ConfigError, UnknownNameError: a setting is wrong.
        DataError: data is absent, broken, not as the suite says, or has labels that the model does
            not know.
        TapError: a model cannot be read.
    """
    selection = select(settings.methods, settings.options)
    odd = [name for name in selection.detectors if not usable_name(name)]
    if odd:
        raise ConfigError(f"methods {odd}; expected {USABLE}.")
    learning = any(one.learns for one in selection.detectors.values())
    # To choose on, training images are needed even if no method learns from them.
    if settings.fit_limit == 0 or not (learning or settings.hyper_parameters == "id-only"):
        settings = replace(settings, suite=settings.suite.without_fit())
    opened = open_all(settings)
    warn_of_twins(opened)
    suite = opened_sets(settings, opened[0])
    warn_of_overlap(opened[0], chosen=settings.hyper_parameters == "id-only")
    runs: list[dict[str, Any]] = []
    pairs: list[dict[str, Any]] = []
    scores: dict[str, dict[str, dict[str, Tensor]]] = {}
    for one in opened:
        name = one.contender.run
        if len(opened) > 1:
            weights = ", ".join(map(str, one.subject.weights)) or "its own weights"
            told(f"{name}: {one.subject.spec}, {weights}")
        found, choice = _compared(one, settings, selection)
        scores[name] = {"id": dict(found.known)}
        scores[name] |= {ood: dict(methods) for ood, methods in found.unknown.items()}
        clock = time.perf_counter()
        analysis = _analysis(found, settings)
        pairs += [{"run": name, **row} for row in comparisons(analysis, _COMPARED)]
        figures = {"rows": analysis.rows(), "means": analysis.means()}
        seconds = {**found.seconds, "metrics": time.perf_counter() - clock}
        runs.append(_told(one, found, choice, settings, figures, seconds))
    how = FIXED if settings.hyper_parameters == "fixed" else runs[0]["hyper_parameters"]
    record = ArenaRecord(
        command=command,
        provenance=provenance(),
        suite=suite,
        settings=settings.to_dict(),
        hyper_parameters={"kind": settings.hyper_parameters, "how": how},
        runs=runs,
        seeds=_seeds(runs),
        comparisons=pairs,
        ranking=_ranking(runs),
    )
    return Outcome(record, scores)


def _analysis(found: Comparison, settings: Settings) -> Analysis:
    known = {method: scores.numpy() for method, scores in found.known.items()}
    unknown = {
        name: {method: scores.numpy() for method, scores in own.items()}
        for name, own in found.unknown.items()
    }
    groups = {one.name: one.group for one in settings.suite.ood}
    return Analysis.of(known, unknown, groups)


def _seeds(runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Over the runs of each label; where there are several, methods are LABEL/METHOD."""
    labels = dict.fromkeys(run["label"] for run in runs)
    found: dict[str, Any] = {}
    for label in labels:
        own = over_seeds([run["means"] for run in runs if run["label"] == label])
        found |= own if len(labels) == 1 else {f"{label}/{name}": v for name, v in own.items()}
    return found


def _ranking(runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Of the methods that every run has, by AUROC; a block is a set of a run."""
    names = [name for name in runs[0]["methods"] if all(name in run["methods"] for run in runs)]
    blocks = [
        {row["method"]: row for row in run["rows"] if row["ood"] == name}
        for run in runs
        for name in dict.fromkeys(row["ood"] for row in run["rows"])
    ]
    if len(names) < 2 or len(blocks) < 2:
        return {}
    return ranking([[block[name]["auroc"] for block in blocks] for name in names], names)


def _compared(
    opened: Opened, settings: Settings, selection: Selection
) -> tuple[Comparison, Choice]:
    kept = opened.kept(settings)
    choice = Choice(selection.detectors)
    if settings.hyper_parameters == "id-only":
        choice = choose(opened, settings, selection, kept)
    found = compare(
        opened.subject.model,
        choice.detectors,
        opened.sets(settings),
        opened.example,
        required=selection.required,
        level=None,
        kept=kept,
    )
    return found, choice


def _told(
    opened: Opened,
    found: Comparison,
    choice: Choice,
    settings: Settings,
    figures: Mapping[str, Any],
    seconds: Mapping[str, float],
) -> dict[str, Any]:
    """One network's part of the record."""
    clock = time.perf_counter()
    cost = costs(found.team, opened.example[:_COSTED]) if settings.costs else {}
    seconds = {**seconds, "costs": time.perf_counter() - clock}
    return {
        "run": opened.contender.run,
        "label": opened.contender.label,
        "seed": opened.contender.seed,
        "subject": opened.subject.to_dict(),
        "classes": found.classes,
        "id_accuracy": found.id_accuracy,
        "methods": {name: _method(name, found, choice) for name in found.detectors},
        "left_out": dict(found.left_out),
        "hyper_parameters": choice.how,
        **figures,
        "cost": cost,
        "seconds": {name: round(value, 3) for name, value in seconds.items()},
    }


def _method(name: str, found: Comparison, choice: Choice) -> dict[str, Any]:
    detector, plan = found.detectors[name], found.plans[name]
    own = any(map(own_pass, (*plan.reads, *plan.fit_reads)))
    return {
        "method": detector.name,
        "title": detector.title,
        "paper": detector.paper,
        "options": detector.options(),
        "notes": plan.notes,
        "caveats": plan.caveats,
        "pass": "own" if own else "shared",
        "fits": detector.learns,
        "chosen_by": "id-only" if name in choice.tried else "fixed",
        **({"tried": choice.tried[name]} if name in choice.tried else {}),
    }
