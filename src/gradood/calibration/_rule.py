"""The rule that decides: calibrations of all detectors of a monitor, and of their combination."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from gradood.calibration._copies import Contents
from gradood.calibration._curve import How
from gradood.calibration.conformal import Calibration
from gradood.calibration.fitting import calibrated, warn_of_ties
from gradood.calibration.fusion import Fusion, fused, required_fused
from gradood.calibration.guarantee import Promise, required
from gradood.calibration.results import BatchScores, Result, Results, Status
from gradood.errors import ArtifactError, CalibrationError

__all__ = ["DecisionRule"]

_KEYS = {"detectors", "fusion", "combined"}
_COPIES = {"contents", "fewer_copies"}
"""Keys of a record; gradood 0.1.0 wrote none of the second."""


class _Decision(NamedTuple):
    """What one calibration says of a batch: p-values, decisions, and whether by class alone."""

    p_value: Tensor
    is_ood: Tensor
    class_conditional: Tensor

    def and_by(self, other: "_Decision") -> "_Decision":
        """What both say: the larger p-value, and flagged where both flag."""
        return _Decision(
            torch.maximum(self.p_value, other.p_value),
            self.is_ood & other.is_ood,
            self.class_conditional & other.class_conditional,
        )


@dataclass(frozen=True, eq=False, slots=True)
class DecisionRule:
    """Calibrations of all detectors of a monitor, and of their combination if it has one.

    Where calibration samples are copies of one another, `fewer_copies` holds the same rule learned
    from fewer of them, and an input gets the largest p-value that any of the rules gives: the
    promise is kept whether the copies are in the nature of the data or came about by sampling.

    Attributes:
        each: detector → its calibration.
        fusion: from scores to one statistic, or None.
        fused: the calibration of that statistic, or None.
        contents: how many distinct contents the samples have; None where that was not counted.
        fewer_copies: see above; empty if no two samples are copies.
    """

    each: Mapping[str, Calibration]
    fusion: Fusion | None = None
    fused: Calibration | None = None
    contents: int | None = None
    fewer_copies: tuple["DecisionRule", ...] = ()

    @staticmethod
    def of(
        batch: BatchScores,
        promise: Promise,
        *,
        combine: How | None = None,
        per_class: bool = False,
        tolerances: Mapping[str, float] | None = None,
    ) -> "DecisionRule":
        """Thresholds that keep `promise`, learned from held-out in-distribution samples.

        Args:
            batch: the samples, with labels and keys.
            promise: what is to hold, of each detector and of the combination.
            combine: how the detectors become one, or None.
            per_class: compare within predicted classes.
            tolerances: detector → how far apart equal scores may be; 0 where it is not given.

        Raises:
            CalibrationError: too few samples or distinct contents, or too many scores that are not
                finite.

        Cost:
            A sort of the samples by each detector, and by content; again for each of at most two
            rules with fewer copies.
        """
        allowed = tolerances or {}
        rule = _learned(batch, promise, combine, per_class, allowed)
        contents = Contents.of(batch.keys)
        need = required(promise) if combine is None else required_fused(promise)
        if contents.distinct < need:
            raise CalibrationError(
                f"{len(batch)} calibration samples were given, with only {contents.distinct} "
                f"distinct contents among them, as the others are copies; {promise} needs at least "
                f"{need} distinct ones. Add {need - contents.distinct}, or promise less."
            )
        for calibration in (*rule.each.values(), *([rule.fused] if rule.fused else [])):
            warn_of_ties(calibration)
        fewer = tuple(
            _learned(batch.rows(rows), promise, combine, per_class, allowed)
            for rows in contents.with_fewer_copies()
        )
        return DecisionRule(rule.each, rule.fusion, rule.fused, contents.distinct, fewer)

    @property
    def promise(self) -> Promise:
        """What every decision keeps."""
        return next(iter(self.each.values())).promise

    @property
    def per_class(self) -> bool:
        """Whether it holds within each predicted class."""
        return any(calibration.per_class for calibration in self.each.values())

    @property
    def samples(self) -> int:
        """How many held-out samples the rule was learned from."""
        return next(iter(self.each.values())).samples

    def results(self, batch: BatchScores, overrides: tuple[str, ...] = ()) -> Results:
        """The decisions about a batch.

        Args:
            batch: scores of every detector.
            overrides: refusals that were overridden, to stamp on the results.
        """

        def result(scores: Tensor, name: str | None) -> Result:
            finite = scores.isfinite().tolist()
            status: tuple[Status, ...] = tuple(
                "nonfinite_input" if nonfinite else "ok" if sound else "nonfinite_score"
                for nonfinite, sound in zip(batch.nonfinite.tolist(), finite, strict=True)
            )
            decision = self._decision(batch, name)
            for rule in self.fewer_copies:
                decision = decision.and_by(rule._decision(batch, name))
            return Result(
                score=scores,
                p_value=decision.p_value,
                is_ood=decision.is_ood,
                label=batch.label,
                status=status,
                class_conditional=decision.class_conditional,
                overrides=overrides,
                logits=batch.kept.get("logits"),
                features=batch.kept.get("features"),
                content_key=batch.keys,
            )

        each = {name: result(batch.scores[name], name) for name in self.each}
        if self.fusion is None:
            return Results(each)
        return Results(each, result(self.fusion.statistic(batch.scores), None))

    def _decision(self, batch: BatchScores, name: str | None) -> _Decision:
        """By one detector, or by the combination where the name is None."""
        if name is not None:
            made, scores = self.each[name], batch.scores[name]
        else:
            assert self.fusion is not None
            assert self.fused is not None
            made = self.fused
            # The least statistic that the input may have, whatever its batch; see `fuse`.
            scores = self.fusion.statistic(
                {name: batch.scores[name] - part.tolerance for name, part in self.each.items()}
            )
        return _Decision(*made.decided(scores, batch.label))

    # -- record ---------------------------------------------------------------------------

    def to_plain(self) -> dict[str, Any]:
        """What a reader needs to know, as plain JSON values; `tensors` has the rest."""
        return {
            "detectors": {name: part.to_plain() for name, part in self.each.items()},
            "fusion": None if self.fusion is None else self.fusion.to_plain(),
            "combined": None if self.fused is None else self.fused.to_plain(),
            "contents": self.contents,
            "fewer_copies": [rule.to_plain() for rule in self.fewer_copies],
        }

    def tensors(self, prefix: str = "calibration") -> dict[str, Tensor]:
        """All tensors, under names of their own.

        Args:
            prefix: of the names.
        """
        parts: dict[str, Calibration | Fusion] = {
            f"{prefix}/detectors/{name}": part for name, part in self.each.items()
        }
        if self.fusion is not None and self.fused is not None:
            parts |= {f"{prefix}/fusion": self.fusion, f"{prefix}/combined": self.fused}
        named = {
            f"{where}/{name}": tensor
            for where, part in parts.items()
            for name, tensor in part.tensors().items()
        }
        for number, rule in enumerate(self.fewer_copies):
            named |= rule.tensors(f"{prefix}/fewer_copies/{number}")
        return named

    @staticmethod
    def from_plain(
        plain: Mapping[str, Any], tensors: Mapping[str, Tensor], prefix: str = "calibration"
    ) -> "DecisionRule":
        """The decider again; the same to the last bit.

        Args:
            plain: from `to_plain`.
            tensors: from `tensors`, and others.
            prefix: of their names.

        Raises:
            ArtifactError: the record is malformed, or does not fit the tensors.
        """
        try:
            each = {
                name: Calibration.from_plain(part, _below(f"{prefix}/detectors/{name}", tensors))
                for name, part in plain["detectors"].items()
            }
            fusion, combined = plain["fusion"], plain["combined"]
            contents, fewer = plain.get("contents"), plain.get("fewer_copies", [])
            rules = tuple(
                DecisionRule.from_plain(part, tensors, f"{prefix}/fewer_copies/{number}")
                for number, part in enumerate(_listed(fewer))
            )
            complete = plain.keys() in (_KEYS, _KEYS | _COPIES)
        except (KeyError, TypeError, AttributeError) as error:
            raise ArtifactError(f"this is no calibration record: {error!s}.") from error
        alike = all(
            rule.each.keys() == each.keys() and (rule.fusion is None) == (fusion is None)
            for rule in rules
        )
        counted = contents is None or type(contents) is int
        if not (each and complete and alike and counted) or (fusion is None) != (combined is None):
            raise ArtifactError("the calibration record is not complete; calibrate and save again.")
        if fusion is None:
            return DecisionRule(each, contents=contents, fewer_copies=rules)
        return DecisionRule(
            each,
            Fusion.from_plain(fusion, _below(f"{prefix}/fusion", tensors)),
            Calibration.from_plain(combined, _below(f"{prefix}/combined", tensors)),
            contents,
            rules,
        )


def _learned(
    batch: BatchScores,
    promise: Promise,
    combine: How | None,
    per_class: bool,
    tolerances: Mapping[str, float],
) -> DecisionRule:
    """The rule from these rows, each a sample."""
    classes = batch.label if per_class else None
    each = {
        name: calibrated(scores, promise, classes, tolerances.get(name, 0.0))
        for name, scores in batch.scores.items()
    }
    if combine is None:
        return DecisionRule(each)
    return DecisionRule(each, *fused(batch.scores, batch.keys, combine, promise, classes))


def _listed(value: Any) -> list[Any]:
    """A list in a record, which two rules have at most."""
    if not isinstance(value, list) or len(value) > 2:
        raise TypeError("fewer_copies is no list of at most two")
    return value


def _below(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors right below a prefix.

    Not those further below: in old files a detector's name may go on where another's ends, as
    ``knn/k=1`` does after ``knn``. Names of a calibration's or a fusion's tensors have no slash.
    """
    paths = {name: name.rpartition("/") for name in tensors}
    return {leaf: tensors[name] for name, (folder, _, leaf) in paths.items() if folder == prefix}
