"""Figures of a benchmark record: rows of metrics, costs, comparisons, spreads and ranks."""

import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any

from gradood._io.records import KEY, OMIT, Expect, Extensible, to_plain

__all__ = [
    "ComparisonRow",
    "CostRow",
    "FigureRow",
    "Finite",
    "FullSpectrum",
    "Interval",
    "MeanRow",
    "Measured",
    "Part",
    "RankingRecord",
    "SetRow",
    "Share",
    "ShiftedRecord",
    "Spread",
    "figure",
]

_ROUNDING = 1e-9

Finite = Annotated[float, Expect(math.isfinite, "a finite number")]
Measured = Annotated[float, Expect(math.isfinite, "a finite number", ("nan", "inf", "-inf"))]
"""A number that may be infinite or NaN, which JSON spells as text."""
Share = Annotated[
    Finite, Expect(lambda x: -_ROUNDING <= x <= 1 + _ROUNDING, "a number from 0 to 1")
]
Interval = Annotated[
    tuple[Finite, ...],
    Expect(lambda ends: len(ends) == 2 and ends[0] <= ends[1], "its two ends, the lower one first"),
]


@dataclass(frozen=True, kw_only=True, slots=True)
class Part(Extensible):
    """A part of a record; attributes are the keys of its JSON form."""

    def __getitem__(self, key: str) -> Any:
        """The plain value of a key, as records had them before they had attributes."""
        warnings.warn(
            f"parts of a record have attributes: write .{key} for [{key!r}]; the mapping goes with "
            "the next release.",
            DeprecationWarning,
            stacklevel=2,
        )
        return to_plain(self)[key]


@dataclass(frozen=True, kw_only=True, slots=True)
class SetRow(Part):
    """Figures of a method on a set of outliers: the metrics of `gradood.metrics.Summary`.

    Attributes:
        method: its label.
        ood: the set.
        n_id: in-distribution images.
        n_ood: outliers.
        intervals: metric → its two ends.
    """

    method: str
    ood: str
    n_id: int
    n_ood: int
    auroc: Share
    aupr_in: Share
    aupr_out: Share
    fpr_ood_at_tpr_id95: Share
    fpr_id_at_tpr_ood95: Share
    intervals: Mapping[str, Interval]


@dataclass(frozen=True, kw_only=True, slots=True)
class MeanRow(Part):
    """Unweighted means of a method over the sets of a group: the same metrics.

    Attributes:
        method: its label.
        group: all, near or far.
        intervals: metric → its two ends.
    """

    method: str
    group: str
    auroc: Share
    aupr_in: Share
    aupr_out: Share
    fpr_ood_at_tpr_id95: Share
    fpr_id_at_tpr_ood95: Share
    intervals: Mapping[str, Interval]


FigureRow = SetRow | MeanRow


def figure(row: FigureRow, metric: str) -> float:
    """The value of a metric of a row, by its name."""
    return float(getattr(row, metric))


@dataclass(frozen=True, kw_only=True, slots=True)
class ShiftedRecord(Part):
    """Flags of a method on known images under covariate shift; see `gradood.monitor.ShiftedRow`.

    Attributes:
        method: its label.
        shifted: the set.
        n_id: in-distribution images without shift.
        n: images of the set.
        flag_rate: share of the set above the lowest threshold that keeps 95 % of the ID images.
        id_flag_rate: share of the ID images above it.
        auroc: of the set against the ID images; 0.5 is best.
        intervals: ``auroc`` and ``flag_rate`` → its two ends.
    """

    method: str
    shifted: str
    n_id: int
    n: int
    flag_rate: Share
    id_flag_rate: Share
    auroc: Share
    intervals: Mapping[str, Interval]


@dataclass(frozen=True, kw_only=True, slots=True)
class FullSpectrum(Part):
    """Figures with known images under covariate shift counted as known.

    Attributes:
        rows: per method and set of outliers; the known images and all shifted ones are one sample.
        means: per method and group.
        shifted: per method and shifted set.
        accuracy: shifted set → share classified correctly; None without labels.
    """

    rows: tuple[SetRow, ...]
    means: tuple[MeanRow, ...]
    shifted: tuple[ShiftedRecord, ...]
    accuracy: Mapping[str, Share | None] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class CostRow(Part):
    """Cost of a method beside the plain forward pass.

    Attributes:
        seconds_per_image: of one look.
        time_ratio: to the forward pass.
        memory_ratio: to the forward pass.
        fit_passes: over the training images.
        pass_kind: ``shared`` or ``own``.
        images: that it was measured on.
    """

    seconds_per_image: Measured | None = None
    time_ratio: Measured | None = None
    memory_ratio: Measured | None = None
    fit_passes: int | None = None
    pass_kind: str | None = field(default=None, metadata={KEY: "pass"})
    images: int | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Spread(Part):
    """A metric over several runs: mean, standard deviation (None of one run), number of runs."""

    mean: Finite
    sd: Finite | None = None
    n: int


@dataclass(frozen=True, kw_only=True, slots=True)
class ComparisonRow(Part):
    """The difference between two methods of a run.

    Attributes:
        run: of which network.
        metric: as in `gradood.metrics.Summary`.
        group: all, near or far.
        a: a method.
        b: the other.
        difference: a − b.
        interval: of this pair alone.
        p: two-sided.
        p_holm: with Holm's correction.
        significant: whether they differ.
    """

    run: str
    metric: str
    group: str
    a: str
    b: str
    difference: Finite
    interval: Interval | None = None
    p: Share | None = None
    p_holm: Share | None = None
    significant: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class RankingRecord(Part):
    """Mean ranks of the methods; see `gradood.metrics.ranking`. Empty where there are too few."""

    metric: str | None = field(default=None, metadata={OMIT: True})
    blocks: int | None = field(default=None, metadata={OMIT: True})
    mean_rank: Mapping[str, Finite] | None = field(default=None, metadata={OMIT: True})
    friedman_p: Finite | None = field(default=None, metadata={OMIT: True})
    critical_difference: Finite | None = field(default=None, metadata={OMIT: True})
    cliques: tuple[tuple[str, ...], ...] | None = field(default=None, metadata={OMIT: True})
    wilcoxon_cliques: tuple[tuple[str, ...], ...] | None = field(
        default=None, metadata={OMIT: True}
    )
