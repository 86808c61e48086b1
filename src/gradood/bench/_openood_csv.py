"""Rows in the form of OpenOOD's leaderboard: one CSV table per method."""

import csv
import io
from collections.abc import Mapping, Sequence

import numpy as np

from gradood.bench._record_figures import SetRow, figure
from gradood.bench._record_inputs import SuiteRecord
from gradood.bench.record import Record, RunRecord
from gradood.errors import ConfigError, suggest

__all__ = ["labels_of", "openood_csv"]

_COLUMNS = {
    "FPR@95": "fpr_id_at_tpr_ood95",
    "AUROC": "auroc",
    "AUPR_IN": "aupr_in",
    "AUPR_OUT": "aupr_out",
}
"""Column → metric."""


def openood_csv(
    record: Record, method: str, *, label: str | None = None, full_spectrum: bool = False
) -> str:
    """The table that OpenOOD v1.5 [zhang2023openood] writes of a method.

    Near sets and their mean, then far sets and theirs; percent with two decimals, mean ± standard
    deviation (with n, as there) over the seeds. ``FPR@95`` is `fpr_id_at_tpr_ood95`, as there. The
    areas under precision and recall are average precisions, where OpenOOD takes trapezoids, which
    are the same but for a rounding unless many scores are tied.

    Args:
        record: of a run.
        method: its label in the record.
        label: of the network; None for the only one.
        full_spectrum: with shifted images counted as known, as in OpenOOD's ``fsood``.

    Raises:
        ConfigError: no such method or network, several networks, or no shifted images.
    """
    labels = labels_of(record)
    if label is None and len(labels) > 1:
        raise ConfigError(f"the record is of {', '.join(labels)}; give the label= of one.")
    if label is not None and label not in labels:
        raise ConfigError(f"no network {label!r} in the record; {suggest(label, labels)}")
    runs = labels[next(iter(labels)) if label is None else label]
    if any(method not in run.methods for run in runs):
        raise ConfigError(f"no method {method!r} in it; {suggest(method, runs[0].methods)}")
    if full_spectrum and any(run.full_spectrum is None for run in runs):
        raise ConfigError(
            "the record has no shifted images; run gradood bench with --id-shifted, or with a "
            "suite that has some."
        )
    found = [_figures(record.suite, run, method, full_spectrum) for run in runs]
    return _table(record.suite.members(), found)


def labels_of(record: Record) -> dict[str, list[RunRecord]]:
    """Label of a network → its runs."""
    labels: dict[str, list[RunRecord]] = {}
    for run in record.runs:
        labels.setdefault(run.label or run.run, []).append(run)
    return labels


def _figures(
    suite: SuiteRecord, run: RunRecord, method: str, full_spectrum: bool
) -> tuple[dict[str, SetRow], float | None]:
    """Set → figures of a method, and the accuracy on all that counts as known."""
    full = run.full_spectrum if full_spectrum else None
    rows = {row.ood: row for row in (full or run).rows if row.method == method}
    known = [(suite.id.n, run.id_accuracy)]
    if full is not None:
        known += [(own.n, full.accuracy.get(own.name)) for own in suite.shifted or ()]
    right = [n * share for n, share in known if share is not None]
    if len(right) < len(known):
        return rows, None
    return rows, sum(right) / sum(n for n, _ in known)


def _table(
    members: Mapping[str, Sequence[str]],
    runs: Sequence[tuple[Mapping[str, SetRow], float | None]],
) -> str:
    written = io.StringIO()
    table = csv.writer(written, lineterminator="\n")
    table.writerow(["", *_COLUMNS, "ACC"])
    shares = [accuracy for _, accuracy in runs if accuracy is not None]
    accuracy = _spread(shares) if len(shares) == len(runs) else "-"
    for group in ("near", "far"):
        sets = members.get(group, ())
        lines = {name: (name,) for name in sets} | ({f"{group}ood": sets} if sets else {})
        for name, over in lines.items():
            cells = [
                _spread([_mean(rows, over, metric) for rows, _ in runs])
                for metric in _COLUMNS.values()
            ]
            table.writerow([name, *cells, accuracy])
    return written.getvalue()


def _mean(rows: Mapping[str, SetRow], sets: Sequence[str], metric: str) -> float:
    return float(np.mean([figure(rows[name], metric) for name in sets]))


def _spread(values: Sequence[float]) -> str:
    return f"{100 * np.mean(values):.2f} ± {100 * np.std(values):.2f}"
