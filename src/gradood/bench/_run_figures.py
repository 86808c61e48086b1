"""Figures of a benchmark run: of one network, spreads over seeds, and ranks over all."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from gradood._io.records import to_plain
from gradood.bench._record_figures import (
    FullSpectrum,
    MeanRow,
    RankingRecord,
    SetRow,
    ShiftedRecord,
    Spread,
)
from gradood.bench.comparison import Comparison
from gradood.bench.config import Settings
from gradood.bench.record import RunRecord
from gradood.metrics import Analysis, comparisons, over_seeds, ranking
from gradood.monitor._shifted import pooled, shifted_rows

__all__ = ["RunFigures", "run_figures", "run_ranking", "seed_spreads"]

_COMPARED = ("auroc", "fpr_ood_at_tpr_id95")
"""Metrics by which methods are compared in pairs."""


@dataclass(frozen=True, slots=True)
class RunFigures:
    """Figures of one network: rows per set, means per group, differences of pairs."""

    rows: tuple[SetRow, ...]
    means: tuple[MeanRow, ...]
    comparisons: list[dict[str, Any]]
    full_spectrum: FullSpectrum | None

    def parts(self) -> dict[str, Any]:
        """Those that a network's part of the record holds."""
        return {"rows": self.rows, "means": self.means, "full_spectrum": self.full_spectrum}


def run_figures(comparison: Comparison, settings: Settings) -> tuple[RunFigures, dict[str, float]]:
    """What the scores say, and the seconds that were spent so far."""
    clock = time.perf_counter()
    known = {method: scores.numpy() for method, scores in comparison.known.items()}
    unknown = {
        name: {method: scores.numpy() for method, scores in methods.items()}
        for name, methods in comparison.unknown.items()
    }
    groups = {outliers.name: outliers.group for outliers in settings.suite.ood}
    analysis = Analysis.of(known, unknown, groups)
    figures = RunFigures(
        comparisons=comparisons(analysis, _COMPARED),
        rows=tuple(SetRow(**row) for row in analysis.rows()),
        means=tuple(MeanRow(**row) for row in analysis.means()),
        full_spectrum=_full_spectrum(comparison, unknown, groups),
    )
    return figures, {**comparison.seconds, "metrics": time.perf_counter() - clock}


def _full_spectrum(
    comparison: Comparison,
    unknown: Mapping[str, Mapping[str, Any]],
    groups: Mapping[str, str],
) -> FullSpectrum | None:
    """Figures with the shifted sets counted as known; None if there are none."""
    if not comparison.shifted:
        return None
    known = pooled(comparison.known, comparison.shifted)
    analysis = Analysis.of({name: own.numpy() for name, own in known.items()}, unknown, groups)
    shifted: list[ShiftedRecord] = []
    for name, scores in comparison.shifted.items():
        for row in map(asdict, shifted_rows(name, comparison.known, scores, level=0.95)):
            del row["calibrated"]
            shifted.append(ShiftedRecord(**row))
    methods = list(comparison.known)
    return FullSpectrum(
        rows=tuple(SetRow(**row) for row in analysis.rows()),
        means=tuple(MeanRow(**row) for row in analysis.means()),
        shifted=tuple(sorted(shifted, key=lambda row: methods.index(row.method))),
        accuracy=comparison.shifted_accuracy,
    )


def seed_spreads(runs: Sequence[RunRecord]) -> dict[str, dict[str, dict[str, Spread]]]:
    """Over the runs of each label; where there are several, methods are LABEL/METHOD."""
    labels = dict.fromkeys(run.label for run in runs)
    spreads: dict[str, dict[str, dict[str, Spread]]] = {}
    for label in labels:
        means = [[to_plain(row) for row in run.means] for run in runs if run.label == label]
        for method, groups in over_seeds(means).items():
            spreads[method if len(labels) == 1 else f"{label}/{method}"] = {
                group: {metric: Spread(**spread) for metric, spread in metrics.items()}
                for group, metrics in groups.items()
            }
    return spreads


def run_ranking(runs: Sequence[RunRecord]) -> RankingRecord:
    """Of the methods that every run has, by AUROC; a block is a set of a run."""
    names = [name for name in runs[0].methods if all(name in run.methods for run in runs)]
    blocks = [
        {row.method: row.auroc for row in run.rows if row.ood == name}
        for run in runs
        for name in dict.fromkeys(row.ood for row in run.rows)
    ]
    if len(names) < 2 or len(blocks) < 2:
        return RankingRecord()
    return RankingRecord(**ranking([[block[name] for block in blocks] for name in names], names))
