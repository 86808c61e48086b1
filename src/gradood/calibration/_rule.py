"""The rule that decides: calibrations of all detectors of a monitor, and of their combination."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from gradood.calibration._curve import How
from gradood.calibration.conformal import Calibration
from gradood.calibration.fitting import calibrate
from gradood.calibration.fusion import Fusion, fuse
from gradood.calibration.guarantee import Promise
from gradood.calibration.results import BatchScores, Result, Results, Status
from gradood.errors import ArtifactError

__all__ = ["DecisionRule"]


@dataclass(frozen=True, eq=False, slots=True)
class DecisionRule:
    """Calibrations of all detectors of a monitor, and of their combination if it has one.

    Attributes:
        each: detector → its calibration.
        fusion: from scores to one statistic, or None.
        fused: the calibration of that statistic, or None.
    """

    each: Mapping[str, Calibration]
    fusion: Fusion | None = None
    fused: Calibration | None = None

    @staticmethod
    def of(
        batch: BatchScores, promise: Promise, *, combine: How | None = None, per_class: bool = False
    ) -> "DecisionRule":
        """Thresholds that keep `promise`, learned from held-out in-distribution samples.

        Args:
            batch: the samples, with labels and keys.
            promise: what is to hold, of each detector and of the combination.
            combine: how the detectors become one, or None.
            per_class: compare within predicted classes.

        Raises:
            CalibrationError: too few samples, or scores that are not finite.
        """
        each = {
            name: calibrate(scores, promise, predicted=batch.label, per_class=per_class)
            for name, scores in batch.scores.items()
        }
        if combine is None:
            return DecisionRule(each)
        fusion, fused = fuse(
            batch.scores, batch.keys, combine, promise, predicted=batch.label, per_class=per_class
        )
        return DecisionRule(each, fusion, fused)

    @property
    def promise(self) -> Promise:
        """What every decision keeps."""
        return next(iter(self.each.values())).promise

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

        def result(scores: Tensor, calibration: Calibration) -> Result:
            finite = scores.isfinite().tolist()
            status: tuple[Status, ...] = tuple(
                "nonfinite_input" if nonfinite else "ok" if sound else "nonfinite_score"
                for nonfinite, sound in zip(batch.nonfinite.tolist(), finite, strict=True)
            )
            return Result(
                score=scores,
                p_value=calibration.p_values(scores, batch.label),
                is_ood=calibration.is_ood(scores, batch.label),
                label=batch.label,
                status=status,
                overrides=overrides,
                logits=batch.kept.get("logits"),
                features=batch.kept.get("features"),
            )

        each = {name: result(batch.scores[name], self.each[name]) for name in self.each}
        if self.fusion is None or self.fused is None:
            return Results(each)
        return Results(each, result(self.fusion.statistic(batch.scores), self.fused))

    # -- record ---------------------------------------------------------------------------

    def to_plain(self) -> dict[str, Any]:
        """What a reader needs to know, as plain JSON values; `tensors` has the rest."""
        return {
            "detectors": {name: part.to_plain() for name, part in self.each.items()},
            "fusion": None if self.fusion is None else self.fusion.to_plain(),
            "combined": None if self.fused is None else self.fused.to_plain(),
        }

    def tensors(self) -> dict[str, Tensor]:
        """All tensors, under names of their own."""
        parts: dict[str, Calibration | Fusion] = {
            f"calibration/detectors/{name}": part for name, part in self.each.items()
        }
        if self.fusion is not None and self.fused is not None:
            parts |= {"calibration/fusion": self.fusion, "calibration/combined": self.fused}
        return {
            f"{where}/{name}": tensor
            for where, part in parts.items()
            for name, tensor in part.tensors().items()
        }

    @staticmethod
    def from_plain(plain: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> "DecisionRule":
        """The decider again; the same to the last bit.

        Raises:
            ArtifactError: the record is malformed, or does not fit the tensors.
        """
        try:
            each = {
                name: Calibration.from_plain(part, _below(f"calibration/detectors/{name}", tensors))
                for name, part in plain["detectors"].items()
            }
            fusion, combined = plain["fusion"], plain["combined"]
            complete = plain.keys() == {"detectors", "fusion", "combined"}
        except (KeyError, TypeError, AttributeError) as error:
            raise ArtifactError(f"this is no calibration record: {error!s}.") from error
        if not each or not complete or (fusion is None) != (combined is None):
            raise ArtifactError("the calibration record is not complete; calibrate and save again.")
        if fusion is None:
            return DecisionRule(each)
        return DecisionRule(
            each,
            Fusion.from_plain(fusion, _below("calibration/fusion", tensors)),
            Calibration.from_plain(combined, _below("calibration/combined", tensors)),
        )


def _below(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors right below a prefix.

    Not those further below: in old files a detector's name may go on where another's ends, as
    ``knn/k=1`` does after ``knn``. Names of a calibration's or a fusion's tensors have no slash.
    """
    paths = {name: name.rpartition("/") for name in tensors}
    return {leaf: tensors[name] for name, (folder, _, leaf) in paths.items() if folder == prefix}
