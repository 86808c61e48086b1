"""In-distribution data under covariate shift: pooled with the rest, and how much of it is flagged.

Full-spectrum detection [yang2023fsood] counts samples of known classes in another style, light or
device as known: a method that flags them flags what the model was to be used on.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gradood import metrics
from gradood.errors import DataError

__all__ = [
    "FULL_SPECTRUM",
    "SHIFTED",
    "ShiftedRow",
    "check_names",
    "pooled",
    "shifted_cells",
    "shifted_rows",
]

FULL_SPECTRUM = "Full spectrum: shifted ID counts as known, in one sample with the rest of the ID."
"""Title of a table of figures."""
SHIFTED = (
    "Shifted ID: share flagged where 5 % of the ID are, or by the calibrated rule (as low as on ID "
    "is best) / AUROC against ID (50 is best), in percent."
)
"""Title of a table of flag rates."""


@dataclass(frozen=True, slots=True)
class ShiftedRow:
    """One method on one set of in-distribution data under covariate shift.

    Attributes:
        method: the detector's name in the monitor, or ``"combined"``.
        shifted: the set's name.
        n_id: in-distribution samples without shift.
        n: samples of the set.
        flag_rate: share of the set that is flagged, at the monitor's calibrated decisions; of a
            monitor that is not calibrated, above the lowest threshold that keeps 95 % of the
            in-distribution data. No higher than `id_flag_rate` is best.
        id_flag_rate: the same of the in-distribution data.
        auroc: chance that a sample of the set scores above one without shift; 0.5 is best.
        calibrated: whether the rates are of calibrated decisions.
        intervals: ``"auroc"`` and, unless `calibrated`, ``"flag_rate"`` → (low, high); empty if
            none were asked for.
    """

    method: str
    shifted: str
    n_id: int
    n: int
    flag_rate: float
    id_flag_rate: float
    auroc: float
    calibrated: bool = False
    intervals: Mapping[str, tuple[float, float]] = field(default_factory=dict)


def check_names(shifted: Mapping[str, Any], ood: Mapping[str, Any]) -> None:
    """Refuse a name that a shifted set and a set of outliers share.

    Raises:
        DataError: says which.
    """
    both = [name for name in shifted if name in ood]
    if both:
        raise DataError(
            f"{', '.join(both)} is both a shifted set and a set of outliers; give each set a name "
            "of its own, and one role: known or unknown."
        )


def pooled(
    known: Mapping[str, Tensor], shifted: Mapping[str, Mapping[str, Tensor]]
) -> dict[str, Tensor]:
    """Method → scores of the in-distribution data and of every shifted set, in one sample.

    Args:
        known: method → (n,) scores of the in-distribution data.
        shifted: set → method → its scores.
    """
    return {
        method: torch.cat([scores, *(given[method] for given in shifted.values())])
        for method, scores in known.items()
    }


def shifted_rows(
    name: str,
    known: Mapping[str, Tensor],
    scores: Mapping[str, Tensor],
    *,
    flags: Mapping[str, tuple[Tensor, Tensor]] | None = None,
    level: float | None,
) -> list[ShiftedRow]:
    """One row per method, from the scores of the in-distribution data and of a shifted set.

    Args:
        name: of the set.
        known: method → (n,) scores of the in-distribution data.
        scores: method → (m,) scores of the set.
        flags: method → whether each in-distribution sample, and each of the set, is flagged by the
            calibrated rule; None for the threshold that keeps 95 % of `known`.
        level: coverage of the confidence intervals; None for none.

    Raises:
        DataError: scores that cannot be compared; names the method and the set.
    """
    rows: list[ShiftedRow] = []
    for method, a in known.items():
        b = scores[method]
        try:
            area = metrics.auroc(a, b)
            ends = {} if level is None else metrics.intervals(a, b, level=level)
        except DataError as error:
            raise DataError(f"{method} on {name}: {error}") from error
        given = None if flags is None else flags[method]
        inside, outside = _flagged(a, b) if given is None else given
        intervals = {"auroc": ends["auroc"]} if ends else {}
        if ends and given is None:
            low, high = ends["fpr_ood_at_tpr_id95"]
            intervals["flag_rate"] = (1 - high, 1 - low)
        rows.append(
            ShiftedRow(
                method,
                name,
                len(a),
                len(b),
                flag_rate=_share(outside),
                id_flag_rate=_share(inside),
                auroc=area,
                calibrated=given is not None,
                intervals=intervals,
            )
        )
    return rows


def _flagged(known: Tensor, scores: Tensor) -> tuple[Tensor, Tensor]:
    """Whether each score is above the lowest threshold that keeps 95 % of the known."""
    ordered = np.sort(known.numpy())
    # In integers, as 0.95 has no exact float.
    threshold = float(ordered[-(-95 * len(ordered) // 100) - 1])
    return known > threshold, scores > threshold


def _share(flagged: Tensor) -> float:
    return float(flagged.double().mean())


def shifted_cells(rows: Sequence[Any]) -> tuple[list[str], list[list[str]]]:
    """Header and rows of a table of methods against shifted sets: flag rate / AUROC in percent.

    Args:
        rows: with ``method``, ``shifted``, ``flag_rate``, ``id_flag_rate`` and ``auroc``.
    """
    names = list(dict.fromkeys(row.shifted for row in rows))
    cells: dict[str, list[str]] = {}
    for row in rows:
        own = cells.setdefault(row.method, [f"{100 * row.id_flag_rate:.2f}"])
        own.append(f"{100 * row.flag_rate:.2f} / {100 * row.auroc:.2f}")
    return ["method", "ID", *names], [[method, *own] for method, own in cells.items()]
