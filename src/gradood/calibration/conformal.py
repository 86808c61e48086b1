"""Scores to p-values and decisions that keep a promise about false alarms."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gradood.calibration._mondrian import Groups, Vector
from gradood.calibration._vectors import PRECISIONS, class_numbers, score_vector
from gradood.calibration.guarantee import Promise, required
from gradood.errors import ArtifactError, CalibrationError, ConfigError

__all__ = ["Calibration", "checked"]

_UNSAID = {"tolerance": 0.0, "infinite": 0}
"""What the records of gradood 0.1.0 leave out."""


@dataclass(frozen=True, eq=False)
class Calibration:
    """What calibration scores say about a new score; made by `gradood.calibration.calibrate`.

    Attributes:
        promise: what `is_ood` keeps.
        scores: (n,) float64, ascending; +inf for samples without a finite score.
        classes: (n,) int64, the predicted class of each; None if classes are not told apart.
        precision: dtype the scores had. Scores of another are compared at the coarser of the two,
            as rounding one side alone would move ties.
        tolerance: a calibration score that is lower than a new one by no more counts as equal.
    """

    promise: Promise
    scores: Tensor
    classes: Tensor | None = None
    precision: str = "float64"
    tolerance: float = 0.0

    def __repr__(self) -> str:
        where = f"{len(self._deciding.members)} groups" if self.per_class else f"{self.threshold:g}"
        return f"Calibration({self.promise}; {self.samples} samples, threshold {where})"

    @property
    def samples(self) -> int:
        """Number of calibration samples, n."""
        return len(self.scores)

    @property
    def per_class(self) -> bool:
        """Whether an input is compared with samples of its own predicted class."""
        return self.classes is not None

    @property
    def threshold(self) -> float:
        """An input is flagged if its score is strictly above by more than `tolerance`.

        Raises:
            ConfigError: there is one for each class; see `thresholds`.
        """
        if self.per_class:
            raise ConfigError("this calibration is per class; read `thresholds` instead.")
        return self._deciding.members[0].threshold

    @property
    def thresholds(self) -> dict[int | None, float]:
        """Thresholds by predicted class; under None that of every other class."""
        groups = self._deciding
        keys: list[int | None] = [*groups.classes.tolist(), None]
        of = groups.of.tolist()
        return {key: groups.members[g].threshold for key, g in zip(keys, of, strict=True)}

    def p_values(self, scores: Tensor, predicted: Tensor | None = None) -> Tensor:
        """Conformal p-values, (1 + #{calibration ≥ score − tolerance}) / (n + 1); small = OOD.

        For an input like the calibration data, P(p ≤ α) ≤ α for every α, ties included, also where
        its score is off by up to the tolerance. +inf and NaN get the smallest p there is.

        Args:
            scores: (N,) any real dtype.
            predicted: (N,) predicted classes; needed if `per_class`.

        Returns:
            (N,) float64 on the CPU, above 0 and at most 1.

        Raises:
            ConfigError: `predicted` is missing.
            DataError: a shape or dtype is wrong.

        Cost:
            O(N log n).
        """
        above, samples, _ = self._compared(self._ranking, scores, predicted)
        return torch.from_numpy((above + 1) / (samples + 1))

    def is_ood(self, scores: Tensor, predicted: Tensor | None = None) -> Tensor:
        """Whether each score breaks the promise's threshold; +inf and NaN always do.

        In marginal mode the same as p ≤ α. In PAC mode p-values have no part in it.

        Args:
            scores: (N,) any real dtype.
            predicted: (N,) predicted classes; needed if `per_class`.

        Returns:
            (N,) bool on the CPU.

        Raises:
            ConfigError: `predicted` is missing.
            DataError: a shape or dtype is wrong.

        Cost:
            O(N log n).
        """
        above, _, rank = self._compared(self._deciding, scores, predicted)
        return torch.from_numpy(above < rank)

    def decided(self, scores: Tensor, predicted: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """`p_values`, `is_ood` and `class_conditional` at once, at the price of the first."""
        above, samples, rank = self._compared(self._ranking, scores, predicted)
        p_values = torch.from_numpy((above + 1) / (samples + 1))
        if self._deciding is not self._ranking:
            above, _, rank = self._compared(self._deciding, scores, predicted)
        return p_values, torch.from_numpy(above < rank), self.class_conditional(predicted)

    def class_conditional(self, predicted: Tensor) -> Tensor:
        """Whether each input is decided by samples of its own predicted class alone.

        Rare classes share a group; the promise is on the group, and may not hold within one class.

        Args:
            predicted: (N,) predicted classes.

        Returns:
            (N,) bool on the CPU; False throughout unless `per_class`.
        """
        if not self.per_class:
            return torch.zeros(len(predicted), dtype=torch.bool)
        return self._deciding.own(class_numbers(predicted, len(predicted)))

    # -- record ---------------------------------------------------------------------------

    def to_plain(self) -> dict[str, Any]:
        """What a reader needs to know, as plain JSON values; `tensors` has the rest.

        Groups and thresholds are for the reader: `from_plain` computes them again and compares.
        """
        return {
            "promise": asdict(self.promise),
            "samples": self.samples,
            "per_class": self.per_class,
            "precision": self.precision,
            "tolerance": self.tolerance,
            "infinite": int(self.scores.isinf().sum()),
            "groups": [
                {
                    "classes": group.classes.tolist() if self.per_class else None,
                    "samples": len(group.scores),
                    "rank": group.rank,
                    "threshold": group.threshold,
                }
                for group in self._deciding.members
            ],
        }

    def tensors(self) -> dict[str, Tensor]:
        """The scores, and the classes if there are any."""
        return {"scores": self.scores} | ({"classes": self.classes} if self.per_class else {})  # type: ignore[dict-item]

    @staticmethod
    def from_plain(plain: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> "Calibration":
        """The calibration again, from `to_plain` and `tensors`; the same to the last bit.

        A record of gradood 0.1.0 has no tolerance: it is 0, and decisions are as they were.

        Raises:
            ArtifactError: the record is malformed, or does not fit the tensors.
        """
        try:
            options = dict(plain["promise"])
            if options.keys() != {field.name for field in fields(Promise)}:
                raise ConfigError(f"promise has the keys {sorted(options)}.")
            classes = tensors["classes"] if plain["per_class"] else None
            known = {**_UNSAID, **plain}
            scores, precision = tensors["scores"], plain["precision"]
            made = checked(Promise(**options), scores, classes, precision, known["tolerance"])
            same = made.to_plain() == known and made.tensors().keys() == tensors.keys()
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ArtifactError(
                f"this is no calibration record ({error!s}); calibrate and save again."
            ) from error
        if not same:
            raise ArtifactError(
                "the calibration record does not fit its scores; calibrate and save again."
            )
        return made

    # -- groups ---------------------------------------------------------------------------

    @cached_property
    def _ranking(self) -> Groups:
        """The groups for p-values."""
        if self.classes is None:
            return Groups.single(self.scores, self.promise)
        return Groups.for_ranking(self.scores, self.classes, self.promise)

    @cached_property
    def _deciding(self) -> Groups:
        """The groups for decisions."""
        if self.classes is None or self.promise.mode == "marginal":
            return self._ranking
        return Groups.for_threshold(self.scores, self.classes, self.promise)

    def _compared(
        self, groups: Groups, scores: Tensor, predicted: Tensor | None
    ) -> tuple[Vector, Vector | int, Vector | int]:
        """Of each input: calibration scores not below, calibration scores, deciding rank."""
        compared, kind = self._comparable(scores)
        values = compared.numpy()
        if not self.per_class:
            (group,) = groups.members
            above = group.not_below(values, kind, self.tolerance)
            return above, len(group.scores), group.rank
        rows = groups.rows(class_numbers(predicted, len(values))).numpy()
        above = np.zeros(len(values), dtype=np.int64)
        for number in np.unique(rows):
            mine = rows == number
            above[mine] = groups.members[number].not_below(values[mine], kind, self.tolerance)
        samples = np.array([len(group.scores) for group in groups.members])
        ranks = np.array([group.rank for group in groups.members])
        return above, samples[rows], ranks[rows]

    def _comparable(self, scores: Tensor) -> tuple[Tensor, torch.dtype]:
        """The scores in float64 without NaN, and the dtype that both sides are rounded to."""
        vector, _ = score_vector(scores, "scores")
        fitted = PRECISIONS[self.precision]
        scored = vector.dtype if vector.dtype in PRECISIONS.values() else torch.float64
        kind = max((fitted, scored), key=lambda dtype: torch.finfo(dtype).eps)
        values = vector.to(kind).double() if kind != vector.dtype else vector.double()
        return values.masked_fill(values.isnan(), torch.inf), kind


def checked(
    promise: Promise,
    scores: Tensor,
    classes: Tensor | None,
    precision: str,
    tolerance: float = 0.0,
) -> Calibration:
    """The calibration, if the scores can support it.

    Args:
        promise: what is to hold.
        scores: (n,) float64, ascending.
        classes: (n,) int64 or None.
        precision: see `Calibration`.
        tolerance: likewise.

    Raises:
        CalibrationError: too few scores, or too many that are infinite.
        ConfigError: one of the others is not as said.
    """
    if precision not in PRECISIONS:
        raise ConfigError(f"precision={precision!r}; expected one of {', '.join(PRECISIONS)}.")
    if not (isinstance(tolerance, float) and 0 <= tolerance < float("inf")):
        raise ConfigError(f"tolerance={tolerance!r}; expected a finite number, 0 or above.")
    if scores.dtype != torch.float64 or scores.ndim != 1:
        raise ConfigError(f"scores of {scores.dtype}, shape {tuple(scores.shape)}.")
    if bool((scores.isnan() | (scores == -torch.inf)).any()):
        raise CalibrationError(
            "calibration scores hold −inf or NaN; expected numbers, or +inf for a sample that has "
            "no finite score."
        )
    need = required(promise)
    if len(scores) < need:
        raise CalibrationError(
            f"{len(scores)} calibration samples were given; {promise} needs at least {need}. "
            f"Add {need - len(scores)}, or promise less."
        )
    if classes is not None and (classes.dtype != torch.int64 or classes.shape != scores.shape):
        raise ConfigError(f"classes of {classes.dtype}, shape {tuple(classes.shape)}.")
    if bool((scores[1:] < scores[:-1]).any()):
        raise ConfigError("scores are not in ascending order.")
    made = Calibration(promise, scores, classes, precision, tolerance)
    if bool(scores[-1].isinf()):
        _require_threshold(made)
    return made


def _require_threshold(made: Calibration) -> None:
    """Raise where so many scores are infinite that what is always flagged breaks the promise."""
    groups = made._deciding.members
    broken = [group for group in groups if group.threshold == float("inf")]
    if broken:
        group = broken[0]
        where = f"in {len(broken)} of {len(groups)} groups of classes, " if made.per_class else ""
        bad, rank = int(group.scores.isinf().sum()), group.rank
        raise CalibrationError(
            f"{where}{bad} of {len(group.scores)} calibration samples have no finite score. Inputs "
            f"like these are always flagged, and {made.promise} allows fewer than {rank} of them "
            "here. Leaving them out would not keep the promise: repair such inputs, in use as in "
            "the calibration, use another detector on this model, or promise less."
        )
