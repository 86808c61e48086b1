"""Content of the page, in plain values."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from gradood._bibliography import bibliography
from gradood._io.json import plain
from gradood._io.records import to_plain
from gradood.bench._record_inputs import HyperParameters
from gradood.errors import DataError
from gradood.report._advice import advice
from gradood.report._curves import agreement, histogram, roc, threshold
from gradood.report._facts import made_with, run_facts, told
from gradood.report._gallery import extremes
from gradood.report._views import MEASURES, Figure, RecordView, RunView

__all__ = ["DETAILS", "Detail", "Scores", "content"]

Scores = Mapping[str, Mapping[str, Mapping[str, np.ndarray]]]
"""By run, set (``id`` for the in-distribution one) and method."""

_ID = "id"


@dataclass(frozen=True, slots=True)
class Detail:
    """How finely curves are drawn.

    Attributes:
        points: of a ROC curve at most; 0 for no curves.
        bins: of a histogram.
        note: what a reader should know of it, or empty.
    """

    points: int
    bins: int
    note: str = ""


DETAILS = (
    Detail(200, 40),
    Detail(100, 30, "Curves have at most 100 points, so that the file stays small."),
    Detail(40, 20, "Curves have at most 40 points, so that the file stays small."),
    Detail(0, 0, "Curves and histograms were left out, so that the file stays small."),
)
"""From fine to coarse."""


def content(view: RecordView, scores: Scores, detail: Detail) -> dict[str, Any]:
    """The JSON twin of the page.

    Raises:
        DataError: scores are of no run, set or method of the record, differ in number within a
            set, or are not finite or infinite numbers.
    """
    record = view.record
    missing = [run.name for run in view.runs if not scores.get(run.name)]
    notes = [detail.note] if detail.note else []
    if missing:
        notes.append(
            f"No scores were given of {', '.join(missing)}: no curves, images and agreement there."
        )
    return {
        "format": "gradood-report",
        "version": 1,
        "title": "Which detector to use on " + ", ".join(_models(view)),
        "suite": {"name": record.suite.name, "version": record.suite.version},
        "date": record.date,
        "command": record.command,
        "measures": {name: asdict(measure) for name, measure in MEASURES.items()},
        "groups": list(view.groups),
        "sets": [asdict(s) for s in view.sets],
        "runs": [_run(view, run, scores.get(run.name) or {}, detail) for run in view.runs],
        "seeds": to_plain(record.seeds),
        "ranking": to_plain(record.ranking),
        "hyper_parameters": _hyper_parameters(record.hyper_parameters),
        "facts": [list(fact) for fact in made_with(view)],
        "notes": notes,
    }


def _hyper_parameters(origin: HyperParameters | str) -> str:
    """Fixed or chosen on ID data only, and how."""
    return origin if isinstance(origin, str) else f"{origin.kind} ({origin.how})"


def _models(view: RecordView) -> list[str]:
    names = [run.record.subject.model or run.name for run in view.runs]
    return list(dict.fromkeys(names))


def _run(
    view: RecordView, run: RunView, scores: Mapping[str, Mapping[str, np.ndarray]], detail: Detail
) -> dict[str, Any]:
    arrays = _checked(view, run, scores)
    return {
        "run": run.name,
        "label": run.label,
        "seed": run.record.seed,
        "id_accuracy": run.record.id_accuracy,
        "advice": advice(view, run),
        "order": _order(run),
        "methods": {name: _method(run, name) for name in run.methods},
        "board": {name: _row(view, run, name) for name in run.methods},
        "full_spectrum": _full_spectrum(run),
        "versus": _versus(view, run),
        "curves": _curves(arrays, detail) if detail.points else {},
        "agreement": _agreement(run, arrays),
        "gallery": {
            name: {method: extremes(values) for method, values in methods.items()}
            for name, methods in arrays.items()
        },
        "facts": [list(fact) for fact in run_facts(run)],
    }


def _order(run: RunView) -> list[str]:
    """The best first by the first measure, then those without a mean."""
    first = [method for method, _ in run.ordered(next(iter(MEASURES)))]
    return first + [method for method in run.methods if method not in first]


def _method(run: RunView, name: str) -> dict[str, Any]:
    facts = run.methods[name]
    return {
        "method": facts.method,
        "title": facts.title or "",
        "paper": _paper(facts.paper or ""),
        "options": ", ".join(f"{key}={told(v)}" for key, v in plain(facts.options).items()),
        "notes": list(facts.notes),
        "caveats": list(facts.caveats),
        "tried": told(plain(facts.tried)) if facts.tried else "",
        "own_pass": run.own_pass(name),
        "fits": facts.fits,
        "chosen_by": facts.chosen_by or "fixed",
    }


def _paper(key: str) -> str:
    """Authors and year, where the key is one of ours."""
    known = bibliography().get(key)
    return known.short if known else key


def _row(view: RecordView, run: RunView, name: str) -> dict[str, Any]:
    columns = ("time_ratio", "memory_ratio", "fit_passes", "seconds_per_image")
    return {
        "means": {
            group: _rounded(run.means[name, group])
            for group in view.groups
            if (name, group) in run.means
        },
        "sets": {
            s.name: _rounded(run.cells[name, s.name])
            for s in view.sets
            if (name, s.name) in run.cells
        },
        "cost": {column: run.price(name, column) for column in columns},
    }


def _full_spectrum(run: RunView) -> dict[str, Any] | None:
    """Columns and, by method, cells in percent, with shifted images known; None without such."""
    found = run.record.full_spectrum
    if found is None:
        return None
    cells: dict[str, dict[str, str]] = {method: {} for method in _order(run)}
    for mean in found.means:
        cells[mean.method][f"{mean.group} AUROC"] = _percent(mean.auroc)
    for mean in found.means:
        if mean.group == "all":
            cells[mean.method]["all FPR95"] = _percent(mean.fpr_ood_at_tpr_id95)
    for row in found.rows:
        cells[row.method][f"{row.ood} AUROC"] = _percent(row.auroc)
    for rate in found.shifted:
        cells[rate.method]["flagged ID"] = _percent(rate.id_flag_rate)
        cells[rate.method][f"flagged {rate.shifted}"] = _percent(rate.flag_rate)
    columns = list(dict.fromkeys(column for own in cells.values() for column in own))
    return {
        "columns": columns,
        "rows": [[method, *(own.get(c, "–") for c in columns)] for method, own in cells.items()],
        "accuracy": {name: told(share) for name, share in found.accuracy.items()},
    }


def _percent(share: float) -> str:
    return f"{100 * share:.1f}"


def _rounded(figures: Mapping[str, Figure]) -> dict[str, list[float | None]]:
    return {
        measure: [None if value is None else round(value, 5) for value in figure]
        for measure, figure in figures.items()
    }


def _versus(view: RecordView, run: RunView) -> dict[str, Any]:
    """By measure and group: the best method, and how the others differ from it."""
    found: dict[str, Any] = {}
    for measure in MEASURES:
        for group in view.groups:
            told_apart = run.versus_best(measure, group)
            if told_apart is not None:
                best, others = told_apart
                rows = {method: asdict(pair) for method, pair in others.items()}
                found.setdefault(measure, {})[group] = {"best": best, "others": rows}
    return found


def _curves(arrays: Mapping[str, Mapping[str, np.ndarray]], detail: Detail) -> dict[str, Any]:
    known = arrays.get(_ID, {})
    return {
        name: {
            method: {
                "roc": roc(known[method], values, detail.points),
                "histogram": histogram(known[method], values, detail.bins),
                "threshold": threshold(known[method]),
            }
            for method, values in methods.items()
            if method in known
        }
        for name, methods in arrays.items()
        if name != _ID
    }


def _agreement(
    run: RunView, arrays: Mapping[str, Mapping[str, np.ndarray]]
) -> dict[str, Any] | None:
    """Of the methods that scored every set, on all images together."""
    shared = [m for m in run.methods if arrays and all(m in given for given in arrays.values())]
    if len(shared) < 2:
        return None
    return agreement({m: np.concatenate([given[m] for given in arrays.values()]) for m in shared})


def _checked(
    view: RecordView, run: RunView, scores: Mapping[str, Mapping[str, np.ndarray]]
) -> dict[str, dict[str, np.ndarray]]:
    """The scores of the record's sets and methods, the ID set first."""
    found: dict[str, dict[str, np.ndarray]] = {}
    for name in (_ID, *(s.name for s in view.sets)):
        given = scores.get(name) or {}
        arrays = {m: np.asarray(given[m], dtype=np.float64) for m in run.methods if m in given}
        if not arrays:
            continue
        shapes = {array.shape for array in arrays.values()}
        if len(shapes) > 1 or len(next(iter(shapes))) != 1 or not next(iter(shapes))[0]:
            raise DataError(
                f"the scores of run {run.name!r} on set {name!r} have shapes {sorted(shapes)}; "
                "expected one score per image, (n,), from every method. Give those of one run."
            )
        for method, array in arrays.items():
            if np.isnan(array).any():
                raise DataError(
                    f"the scores of {method!r} on set {name!r} of run {run.name!r} hold NaN; "
                    "expected numbers, infinite ones included. Score what cannot be scored as +inf."
                )
        found[name] = arrays
    if scores and _ID not in found:
        raise DataError(
            f"run {run.name!r} has no scores of set 'id', only of {', '.join(sorted(scores))}; "
            "expected those of the in-distribution set beside the outliers."
        )
    return found
