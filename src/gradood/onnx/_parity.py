"""Parity of a graph with the monitor that it was made of: what `export` and `verify` compare."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from gradood.onnx._judge import OnnxResult, OnnxResults
from gradood.onnx._record import GraphRecord

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Parity", "PartParity", "SIZES", "compared", "in_batches", "with_nonfinite_rows"]

SIZES = (1, 7, 64, 256)
"""Batch sizes at which a graph is run."""
LIMIT = 2e-4
"""Largest difference of a score, in standard deviations of it."""
COUNT_LIMIT = 5e-3
"""The same where a score counts active units, of which one may be at zero."""
STEP_LIMIT = 2e-2
"""The same where a score jumps by more: where a feature is cut, put into bins or ranked.

So does a combination: it looks up each score between two neighboring calibration scores, and where
these are nearly equal a difference in the last digits becomes a step. What the graph combines is
held to more: to the rule's own value for the graph's own scores.
"""


@dataclass(frozen=True, slots=True)
class PartParity:
    """Of one detector, or of the combination.

    Attributes:
        score: largest difference of a score, in standard deviations of the monitor's scores.
        limit: the largest that is allowed.
        flips: decisions that differ, all of them by scores within `limit` of one another.
        p_value: largest difference.
        status: rows whose status differs.
        rule: rows whose decision or p-value is not exactly what the rule says of the graph's score.
        worst: row of the largest difference of a score.
    """

    score: float
    limit: float
    flips: int
    p_value: float
    status: int
    rule: int
    worst: int

    @property
    def holds(self) -> bool:
        """Whether the graph may stand for the monitor."""
        return self.score <= self.limit and not self.status and not self.rule


@dataclass(frozen=True, slots=True)
class Parity:
    """What a graph gives, against what the monitor gives of the same rows.

    Attributes:
        parts: by detector, and ``combined``.
        rows: how many different ones were compared.
        sizes: of the batches; each size saw every row that fits whole batches of it, or more.
        labels: rows whose label differs.
        batches: largest difference between batch sizes, in standard deviations.
        runtime: what ran the graph.
    """

    parts: Mapping[str, PartParity]
    rows: int
    sizes: tuple[int, ...]
    labels: int
    batches: float
    runtime: str = "onnxruntime"

    @property
    def holds(self) -> bool:
        """Whether the graph may stand for the monitor."""
        return not self.labels and all(part.holds for part in self.parts.values())

    @property
    def flips(self) -> int:
        """Decisions that differ, of all parts."""
        return sum(part.flips for part in self.parts.values())

    def __str__(self) -> str:
        sizes = ", ".join(map(str, self.sizes))
        lines = [
            f"{self.runtime}: {self.rows} rows in batches of {sizes}; "
            f"{self.labels} labels differ; between batch sizes {self.batches:.1e} sd",
            f"{'part':<24} {'score (sd)':>10} {'limit':>8} {'flips':>6} {'status':>6} {'rule':>5}",
        ]
        for name, part in self.parts.items():
            mark = "" if part.holds else f"  fails, most at row {part.worst}"
            lines.append(
                f"{name:<24} {part.score:>10.1e} {part.limit:>8.0e} {part.flips:>6} "
                f"{part.status:>6} {part.rule:>5}{mark}"
            )
        return "\n".join(lines)

    def to_plain(self) -> dict[str, Any]:
        """For the record of the graph, and for ``--json``."""
        return {
            "runtime": self.runtime,
            "rows": self.rows,
            "sizes": list(self.sizes),
            "labels": self.labels,
            "batches": self.batches,
            "score": {name: part.score for name, part in self.parts.items()},
            "flips": {name: part.flips for name, part in self.parts.items()},
        }


def with_nonfinite_rows(arrays: Sequence["NDArray[Any]"]) -> list["NDArray[Any]"]:
    """The rows, and three more with a NaN, a +inf and a −inf; none more of whole numbers.

    Args:
        arrays: one per input, of as many rows each.
    """
    first = arrays[0]
    if not np.issubdtype(first.dtype, np.floating):
        return list(arrays)
    count = min(3, len(first))
    bad = [array[:count].copy() for array in arrays]
    for row, value in zip(bad[0], (np.nan, np.inf, -np.inf), strict=False):
        row.flat[row.size // 2] = value
    middle = len(first) // 2
    # In the middle, so that batches of every size have them beside others.
    return [
        np.concatenate([array[:middle], few, array[middle:]])
        for array, few in zip(arrays, bad, strict=True)
    ]


def in_batches(
    predict: Callable[..., OnnxResults], arrays: Sequence["NDArray[Any]"], size: int
) -> OnnxResults:
    """All rows, in batches of that size; the last is filled up with the first rows.

    Args:
        predict: of one batch.
        arrays: one per input.
        size: of a batch.
    """
    rows = len(arrays[0])
    places = np.arange(-(-rows // size) * size) % rows
    found: list[OnnxResults] = []
    for start in range(0, len(places), size):
        found.append(predict(*(array[places[start : start + size]] for array in arrays)))
    each = {name: _joined([part[name] for part in found], rows) for name in found[0]}
    combined = [part.combined for part in found if part.combined is not None]
    return OnnxResults(each, _joined(combined, rows) if combined else None)


def compared(
    record: GraphRecord,
    graph: Mapping[int, OnnxResults],
    monitor: OnnxResults,
    redecided: Callable[[OnnxResults], OnnxResults],
    limits: Mapping[str, float],
    *,
    runtime: str = "onnxruntime",
    exact: bool = True,
) -> Parity:
    """What differs.

    Args:
        record: of the graph.
        graph: batch size → what the graph gives of the rows.
        monitor: what the monitor gives of them.
        redecided: what the rule says of a graph's own scores and labels.
        limits: by detector, if it is not the usual one.
        runtime: what ran the graph.
        exact: whether it computes in float64 where the graph does; else p-values may be off by
            5e-3, and what is summed again by 1e-4 of it, or by the largest limit of its scores.
    """
    fused = max((limits.get(name, LIMIT) for name in record.detectors), default=LIMIT)
    largest = max(graph)
    parts: dict[str, PartParity] = {}
    apart = 0.0
    again = {size: redecided(results) for size, results in graph.items()}
    for part in record.decisions:
        own, whole = _part(monitor, part), _part(graph[largest], part)
        scale = _deviation(own.score)
        limit = STEP_LIMIT if part == "combined" else limits.get(part, LIMIT)
        coarse = 0.0 if exact else scale * (fused if part == "combined" else limit)
        found = [
            _part_parity(_part(results, part), own, _part(again[size], part), scale, limit, coarse)
            for size, results in graph.items()
        ]
        parts[part] = PartParity(
            *(max(getattr(one, name) for one in found) for name in _COUNTED),
            worst=max(found, key=lambda one: one.score).worst,
        )
        for results in graph.values():
            apart = max(apart, _apart(_part(results, part).score, whole.score, scale)[0])
    labels = max(int((results.label != monitor.label).sum()) for results in graph.values())
    return Parity(parts, len(monitor.label), tuple(sorted(graph)), labels, apart, runtime)


_COUNTED = ("score", "limit", "flips", "p_value", "status", "rule")


def _part_parity(
    got: OnnxResult,
    own: OnnxResult,
    again: OnnxResult,
    scale: float,
    limit: float,
    coarse: float,
) -> PartParity:
    """What differs; above 0, `coarse` is how far float32 may be from what the rule says."""
    difference, worst = _apart(got.score, own.score, scale)
    # What is fused is summed again: equal but for the last bits.
    near = np.isclose(got.score, again.score, rtol=1e-4 if coarse else 1e-12, atol=0.0)
    if coarse:
        # In float32 a place between two neighboring ends of a curve is known but coarsely.
        near |= np.abs(np.where(near, 0.0, got.score - again.score)) <= coarse
    p_values = np.abs(got.p_value - again.p_value) <= (5e-3 if coarse else 0.0)
    ruled = (got.is_ood == again.is_ood) & p_values & near
    return PartParity(
        difference,
        limit,
        int((got.is_ood != own.is_ood).sum()),
        float(np.abs(got.p_value - own.p_value).max()),
        sum(a != b for a, b in zip(got.status, own.status, strict=True)),
        int((~ruled).sum()),
        worst,
    )


def _apart(got: "NDArray[Any]", own: "NDArray[Any]", scale: float) -> tuple[float, int]:
    """Largest difference in units of `scale`, and where; rows infinite in both are equal."""
    with np.errstate(invalid="ignore"):
        difference = np.where(got == own, 0.0, np.abs(got - own)) / scale
    difference = np.where(np.isnan(difference), np.inf, difference)
    worst = int(difference.argmax())
    return float(difference[worst]), worst


def _deviation(scores: "NDArray[Any]") -> float:
    finite = scores[np.isfinite(scores)]
    return float(finite.std()) or 1.0 if len(finite) else 1.0


def _part(results: OnnxResults, name: str) -> OnnxResult:
    if name == "combined" and results.combined is not None:
        return results.combined
    return results[name]


def _joined(parts: Sequence[OnnxResult], rows: int) -> OnnxResult:
    names = ("score", "p_value", "is_ood", "label", "class_conditional")
    arrays = {name: np.concatenate([getattr(part, name) for part in parts]) for name in names}
    status = tuple(s for part in parts for s in part.status)
    return OnnxResult(**arrays, status=status, overrides=parts[0].overrides).rows(slice(rows))
