"""Decisions: calibrated detectors, and what they say of a batch."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from gradood.calibration import (
    Calibration,
    Fusion,
    Promise,
    benjamini_hochberg,
    calibrate,
    fuse,
)
from gradood.calibration.curve import How
from gradood.errors import ArtifactError

__all__ = ["Decider", "Look", "Result", "Results", "Status"]

Status = Literal["ok", "nonfinite_input", "nonfinite_score"]
"""Whether a sample could be scored; what could not is out-of-distribution, with a score of +inf."""


@dataclass(frozen=True, eq=False, slots=True)
class Look:
    """What one batch gave, before any decision.

    Attributes:
        scores: detector → (batch,) float64 on the CPU; +inf where there is no finite score.
        label: (batch,) int64 predicted class, −1 where the input or the top logit is not finite.
        broken: (batch,) bool, whether the input holds NaN or infinity.
        keys: (batch,) int64 content keys of the inputs.
    """

    scores: dict[str, Tensor]
    label: Tensor
    broken: Tensor
    keys: Tensor

    @staticmethod
    def empty(names: Iterable[str]) -> "Look":
        """Of no sample."""
        none = torch.empty(0, dtype=torch.int64)
        return Look({name: none.double() for name in names}, none, none.bool(), none)

    @staticmethod
    def lost(names: Iterable[str], size: int) -> "Look":
        """Of samples none of which is finite."""
        score = torch.full((size,), torch.inf, dtype=torch.float64)
        label = torch.full((size,), -1, dtype=torch.int64)
        broken = torch.ones(size, dtype=torch.bool)
        return Look(dict.fromkeys(names, score), label, broken, torch.zeros_like(label))

    @staticmethod
    def joined(looks: Sequence["Look"]) -> "Look":
        """Several batches, at least one, as one."""
        return Look(
            {name: torch.cat([look.scores[name] for look in looks]) for name in looks[0].scores},
            torch.cat([look.label for look in looks]),
            torch.cat([look.broken for look in looks]),
            torch.cat([look.keys for look in looks]),
        )


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class Result:
    """What one detector, or a combination of several, says of each sample.

    Attributes:
        score: (N,) float64; higher = more out-of-distribution, +inf where there is none.
        p_value: (N,) float64 in (0, 1]: how often an in-distribution sample scores as high.
        is_ood: (N,) bool: whether the score breaks the threshold that `calibrate` promised.
        label: (N,) int64, the class that the model predicts; −1 where its input or logits are not
            finite.
        status: per sample ``"ok"``, ``"nonfinite_input"`` or ``"nonfinite_score"``.
        overrides: refusals that were overridden on the way here, with their reasons.
    """

    score: Tensor
    p_value: Tensor
    is_ood: Tensor
    label: Tensor
    status: tuple[Status, ...]
    overrides: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.status)

    def select(self, fdr: float = 0.1) -> Tensor:
        """Samples of this batch to call out-of-distribution, by Benjamini and Hochberg.

        Where `is_ood` bounds the share of false alarms among in-distribution samples, this bounds
        the expected share of false alarms among the samples selected. Samples without a finite
        score are always selected.

        Args:
            fdr: false discovery rate, between 0 and 1.

        Returns:
            (N,) bool.
        """
        bad = torch.tensor([status != "ok" for status in self.status], dtype=torch.bool)
        return benjamini_hochberg(self.p_value, fdr) | bad


class Results(Mapping[str, Result]):
    """A `Result` per detector, and where the monitor combines them the combined one.

    ``results["line"].is_ood`` is one detector's decision. With ``combine=`` the attributes of
    `combined` are those of the mapping too: ``results.score``, ``.p_value``, ``.is_ood``.

    Attributes:
        combined: the one decision of all detectors, or None without ``combine=``.
        label: (N,) predicted classes.
        status: per sample, the worst over the detectors.
        overrides: refusals that were overridden.
    """

    def __init__(self, each: Mapping[str, Result], combined: Result | None = None) -> None:
        self._each = dict(each)
        self.combined = combined
        first = next(iter(self._each.values()))
        self.label: Tensor = first.label
        self.overrides: tuple[str, ...] = first.overrides
        rows = zip(*(result.status for result in self._each.values()), strict=True)
        self.status: tuple[Status, ...] = tuple(
            next((status for status in row if status != "ok"), "ok") for row in rows
        )

    def __getitem__(self, name: str) -> Result:
        return self._each[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._each)

    def __len__(self) -> int:
        return len(self._each)

    def __repr__(self) -> str:
        return f"Results({', '.join(self._each)}; {len(self.status)} samples)"

    @property
    def score(self) -> Tensor:
        """(N,) the combined statistic."""
        return self._combined("score").score

    @property
    def p_value(self) -> Tensor:
        """(N,) of the combined statistic."""
        return self._combined("p_value").p_value

    @property
    def is_ood(self) -> Tensor:
        """(N,) the combined decision."""
        return self._combined("is_ood").is_ood

    def select(self, fdr: float = 0.1) -> Tensor:
        """`Result.select` on the combined decision."""
        return self._combined("select").select(fdr)

    def _combined(self, name: str) -> Result:
        if self.combined is None:
            raise AttributeError(
                f"these results have no {name!r} of their own, as the detectors were not combined: "
                f"read results['{next(iter(self._each))}'].{name}, or make the monitor with "
                "combine='fisher'."
            )
        return self.combined


@dataclass(frozen=True, eq=False, slots=True)
class Decider:
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
        look: Look, promise: Promise, *, combine: How | None = None, per_class: bool = False
    ) -> "Decider":
        """Thresholds that keep `promise`, learned from held-out in-distribution samples.

        Args:
            look: the samples, with labels and keys.
            promise: what is to hold, of each detector and of the combination.
            combine: how the detectors become one, or None.
            per_class: compare within predicted classes.

        Raises:
            CalibrationError: too few samples, or scores that are not finite.
        """
        each = {
            name: calibrate(scores, promise, predicted=look.label, per_class=per_class)
            for name, scores in look.scores.items()
        }
        if combine is None:
            return Decider(each)
        fusion, fused = fuse(
            look.scores, look.keys, combine, promise, predicted=look.label, per_class=per_class
        )
        return Decider(each, fusion, fused)

    def results(self, look: Look, overrides: tuple[str, ...] = ()) -> Results:
        """The decisions about a batch."""

        def result(scores: Tensor, calibration: Calibration) -> Result:
            status: tuple[Status, ...] = tuple(
                "nonfinite_input" if broken else "ok" if finite else "nonfinite_score"
                for broken, finite in zip(
                    look.broken.tolist(), scores.isfinite().tolist(), strict=True
                )
            )
            return Result(
                score=scores,
                p_value=calibration.p_values(scores, look.label),
                is_ood=calibration.is_ood(scores, look.label),
                label=look.label,
                status=status,
                overrides=overrides,
            )

        each = {name: result(look.scores[name], self.each[name]) for name in self.each}
        if self.fusion is None or self.fused is None:
            return Results(each)
        return Results(each, result(self.fusion.statistic(look.scores), self.fused))

    # -- record ---------------------------------------------------------------------------

    def to_plain(self) -> dict[str, Any]:
        """What a reader needs to know, as plain JSON values; `tensors` has the rest."""
        return {
            "detectors": {name: one.to_plain() for name, one in self.each.items()},
            "fusion": None if self.fusion is None else self.fusion.to_plain(),
            "combined": None if self.fused is None else self.fused.to_plain(),
        }

    def tensors(self) -> dict[str, Tensor]:
        """All tensors, under names of their own."""
        parts = {f"calibration/detectors/{name}": one for name, one in self.each.items()}
        if self.fusion is not None and self.fused is not None:
            parts |= {"calibration/fusion": self.fusion, "calibration/combined": self.fused}  # type: ignore[dict-item]
        return {
            f"{where}/{name}": tensor
            for where, part in parts.items()
            for name, tensor in part.tensors().items()
        }

    @staticmethod
    def from_plain(plain: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> "Decider":
        """The decider again; the same to the last bit.

        Raises:
            ArtifactError: the record is malformed, or does not fit the tensors.
        """
        try:
            each = {
                name: Calibration.from_plain(one, _below(f"calibration/detectors/{name}", tensors))
                for name, one in plain["detectors"].items()
            }
            fusion, combined = plain["fusion"], plain["combined"]
            complete = plain.keys() == {"detectors", "fusion", "combined"}
        except (KeyError, TypeError, AttributeError) as error:
            raise ArtifactError(f"this is no calibration record: {error!s}.") from error
        if not each or not complete or (fusion is None) != (combined is None):
            raise ArtifactError("the calibration record is not complete; calibrate and save again.")
        if fusion is None:
            return Decider(each)
        return Decider(
            each,
            Fusion.from_plain(fusion, _below("calibration/fusion", tensors)),
            Calibration.from_plain(combined, _below("calibration/combined", tensors)),
        )


def _below(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    start = f"{prefix}/"
    return {
        name.removeprefix(start): tensor
        for name, tensor in tensors.items()
        if name.startswith(start)
    }
