"""A monitor in a table: its model, its promise, and its detectors with their thresholds."""

from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from gradood._io import html
from gradood.calibration import Calibration
from gradood.monitor._state import MonitorOptions, MonitorState
from gradood.taps import unwrap

__all__ = ["DetectorSummary", "MonitorSummary", "summary_of"]


@dataclass(frozen=True, slots=True)
class DetectorSummary:
    """One detector of a monitor, or the combination of all.

    Attributes:
        name: in the monitor.
        state: ``"fitted"``, ``"not fitted"``, or ``"needs no fit"``.
        threshold: a score above is out-of-distribution; None before `calibrate`, and where each
            predicted class has its own.
        cost: passes and memory, in words; once fitted, also how what it keeps was bounded.
    """

    name: str
    state: str
    threshold: float | None
    cost: str


@dataclass(frozen=True, slots=True)
class MonitorSummary:
    """What a monitor is made of and what it promises; `str` and notebooks show it as a table.

    Attributes:
        model: class of the classifier.
        classes: number of logits; None before the first batch.
        head: name of the last linear layer; None before the first batch, and where none was found.
        promise: of `calibrate`, in words; None before.
        samples: that it was calibrated on; 0 before.
        per_class: whether each predicted class has a threshold of its own.
        detectors: in order, and last the combination, if there is one.
        left_out: why a detector does not run, by name.
        overrides: refusals that were overridden, with their reasons.
        scaling: those of `samples` that bring the scores to one scale for a combination; the others
            set its threshold. 0 without a combination.
    """

    model: str
    classes: int | None
    head: str | None
    promise: str | None
    samples: int
    per_class: bool
    detectors: tuple[DetectorSummary, ...]
    left_out: Mapping[str, str]
    overrides: tuple[str, ...]
    scaling: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)

    def __str__(self) -> str:
        rows = [_HEADER, *self._rows()]
        widths = [max(len(row[column]) for row in rows) for column in range(3)]
        lines = [f"{name:9}  {value}" for name, value in self._facts()]
        lines += [
            "",
            *(f"{a:{widths[0]}}  {b:{widths[1]}}  {c:>{widths[2]}}  {d}" for a, b, c, d in rows),
        ]
        return "\n".join(lines)

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        facts = html.table(("", ""), self._facts(), text_columns=2)
        return facts + html.table(_HEADER, self._rows(), text_columns=4)

    def _facts(self) -> list[tuple[str, str]]:
        classes = "" if self.classes is None else f", {self.classes} classes"
        head = "" if self.head is None else f", head {self.head!r}"
        promise = "none yet: monitor.calibrate(held_out, fpr=0.05)"
        if self.promise is not None:
            within = ", within each predicted class" if self.per_class else ""
            promise = f"{self.promise}{within}; calibrated on {self.samples:,} samples"
            if self.scaling:
                promise += (
                    f": {self.scaling:,} bring the scores to one scale, "
                    f"{self.samples - self.scaling:,} set the threshold of the combination"
                )
        return [
            ("model", f"{self.model}{classes}{head}"),
            ("promise", promise),
            *(("left out", f"{name}: {why}") for name, why in self.left_out.items()),
            *(("override", text) for text in self.overrides),
        ]

    def _rows(self) -> list[tuple[str, str, str, str]]:
        return [(row.name, row.state, self._threshold(row), row.cost) for row in self.detectors]

    def _threshold(self, row: DetectorSummary) -> str:
        if row.threshold is not None:
            return f"{row.threshold:.6g}"
        return "per class" if self.per_class and self.promise is not None else "none yet"


_HEADER = ("detector", "state", "threshold", "cost")


def summary_of(options: MonitorOptions, state: MonitorState) -> MonitorSummary:
    """The summary of a monitor.

    Args:
        options: of the monitor.
        state: likewise.
    """
    bound, rule, unbound = state.bound, state.rule, options.unbound
    chosen = bound or unbound
    unfitted = unbound.learners if bound is None else bound.unfitted
    calibrations = {} if rule is None else dict(rule.each)
    notes = () if bound is None else tuple(bound.notes())
    rows = [
        DetectorSummary(
            name,
            _state(name, chosen.learners, unfitted),
            _at(calibrations, name),
            "; ".join([detector.cost, *(note for fitted, note in notes if fitted == name)]),
        )
        for name, detector in chosen.detectors.items()
    ]
    if unbound.combine is not None:
        fused = {} if rule is None or rule.fused is None else {"combined": rule.fused}
        rows.append(DetectorSummary("combined", unbound.combine, _at(fused, "combined"), "none"))
    network = None if bound is None else bound.binding.network
    return MonitorSummary(
        model=type(unwrap(unbound.model)).__name__,
        classes=None if network is None else network.classes,
        head=network.head.layer if network is not None and network.head_found else None,
        promise=None if rule is None else str(rule.promise),
        samples=0 if rule is None else rule.samples,
        per_class=rule is not None and rule.per_class,
        detectors=tuple(rows),
        left_out={} if bound is None else dict(bound.left_out),
        overrides=state.stamps,
        scaling=0 if rule is None or rule.fusion is None else rule.fusion.samples,
    )


def _state(name: str, learners: Collection[str], unfitted: Collection[str]) -> str:
    if name not in learners:
        return "needs no fit"
    return "not fitted" if name in unfitted else "fitted"


def _at(calibrations: Mapping[str, Calibration], name: str) -> float | None:
    calibration = calibrations.get(name)
    return None if calibration is None or calibration.per_class else calibration.threshold
