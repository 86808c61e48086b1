"""The one statistic that is watched: from results or scores to what each calibration is of."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gradood._io.arguments import type_named
from gradood._io.canonical import encode
from gradood._io.hashing import tensors_digest
from gradood.calibration import Calibration
from gradood.calibration._rule import DecisionRule
from gradood.calibration.results import Result, Results
from gradood.errors import ConfigError, DataError, UnknownNameError, suggest
from gradood.watch._cells import Vector

__all__ = ["COMBINED", "Items", "Statistic", "score_vector"]

COMBINED = "combined"


@dataclass(frozen=True, eq=False, slots=True)
class Items:
    """Some items of a stream, in order.

    Attributes:
        scores: (N,) float64 without NaN, for each rule of the statistic.
        labels: (N,) int64 predicted classes, or None.
        keys: (N,) int64 content keys, or None.
    """

    scores: tuple[Vector, ...]
    labels: Vector | None = None
    keys: Vector | None = None

    def __len__(self) -> int:
        return len(self.scores[0])


@dataclass(frozen=True, eq=False, slots=True)
class Statistic:
    """One detector's score, or the combination of all, and the rules that were learned for it.

    Attributes:
        name: of the detector, or ``"combined"``.
        rules: the rule of all calibration samples, then those of fewer copies.
    """

    name: str
    rules: tuple[DecisionRule, ...]

    @staticmethod
    def of(rule: DecisionRule, detector: str | None) -> "Statistic":
        """The statistic of a rule.

        Args:
            rule: of a monitor.
            detector: name of one; None for the combination, or the only one.

        Raises:
            ConfigError: there are several and nothing says which.
            UnknownNameError: no detector of that name.
        """
        names = _names(rule)
        if detector is None and rule.fusion is None and len(rule.each) > 1:
            raise ConfigError(
                f"the monitor has {len(rule.each)} detectors that are not combined, and a stream "
                "is watched by one statistic, as several would each have false alarms: give "
                f"detector={names[0]!r}, or make the monitor with combine='fisher'."
            )
        if detector is None:
            detector = names[-1]
        elif detector not in names:
            raise UnknownNameError(f"detector={detector!r}; {suggest(str(detector), names)}")
        return Statistic(detector, (rule, *rule.fewer_copies))

    @staticmethod
    def named(rule: DecisionRule, name: str) -> "Statistic | None":
        """The statistic of a name; None if the rule has none of it."""
        return Statistic.of(rule, name) if name in _names(rule) else None

    @property
    def combined(self) -> bool:
        """Whether it is the combination of several detectors."""
        return self.name == COMBINED and self.rules[0].fusion is not None

    @property
    def calibrations(self) -> tuple[Calibration, ...]:
        """Of each rule, the calibration of this statistic."""
        found = [rule.fused if self.combined else rule.each[self.name] for rule in self.rules]
        return tuple(calibration for calibration in found if calibration is not None)

    def digest(self) -> str:
        """SHA-256 over everything that the calibration is made of; equal once saved and loaded."""
        rule = self.rules[0]
        text = f"{self.name}\n{encode(rule.to_plain())}\n{tensors_digest(rule.tensors())}"
        return hashlib.sha256(text.encode()).hexdigest()

    def items(self, given: Any, labels: Any, *, least: bool) -> Items:
        """The items of what a monitor predicted, or of bare scores.

        Args:
            given: a `Result`, `Results`, or (N,) scores.
            labels: (N,) predicted classes of bare scores, or None.
            least: take the least statistic that an item may have, as its detectors' scores may be
                off by their tolerances.

        Raises:
            DataError: it is of another statistic or calibration, or of a wrong shape.
        """
        if isinstance(given, Result | Results):
            if labels is not None:
                raise ConfigError("labels= is for bare scores; results have labels of their own.")
            return self._of_results(given, least=least)
        scores = score_vector(given)
        classes = None if labels is None else _vector(labels, "labels", whole=True).astype(np.int64)
        if classes is not None and len(classes) != len(scores):
            raise DataError(
                f"{len(classes)} labels were given for {len(scores)} scores; give one for each."
            )
        return Items(self._alike(scores), classes)

    def _of_results(self, given: Result | Results, *, least: bool) -> Items:
        result = self._result(given)
        label = result.label.numpy()
        scores = _without_nan(result.score.numpy().astype(np.float64))
        self._check(result)
        keys = None if result.content_key is None else result.content_key.numpy()
        if isinstance(given, Results) and self.combined and (least or len(self.rules) > 1):
            each = {name: one.score for name, one in given.items()}
            return Items(tuple(self._fused(rule, each, least) for rule in self.rules), label, keys)
        return Items(self._alike(scores), label, keys)

    def _result(self, given: Result | Results) -> Result:
        """The result of this statistic."""
        if isinstance(given, Result):
            return given
        if self.name in given:
            return given[self.name]
        raise DataError(
            f"the results are of {', '.join(given)}, and {self.name!r} is watched; give those of "
            "the monitor that the watch was made of."
        )

    def _alike(self, scores: Vector) -> tuple[Vector, ...]:
        """The same scores for every rule, where that is right."""
        if self.combined and len(self.rules) > 1:
            raise DataError(
                "scores of the combination alone were given, but calibration samples are copies of "
                "one another, so that there are several combinations; give all that "
                "monitor.predict gives."
            )
        return (scores,) * len(self.rules)

    def _fused(self, rule: DecisionRule, each: Mapping[str, Tensor], least: bool) -> Vector:
        assert rule.fusion is not None
        off = {name: part.tolerance if least else 0.0 for name, part in rule.each.items()}
        scores = {name: each[name] - off[name] for name in rule.each}
        return rule.fusion.statistic(scores).numpy()

    def _check(self, result: Result) -> None:
        """Refuse results of another calibration, whose p-values are others.

        Where the rule is several, or a combination, the p-value is the largest of some.
        """
        expected = self.calibrations[0].p_values(result.score, result.label)
        off = result.p_value - expected
        if not self.combined and len(self.rules) == 1:
            off = -off.abs()
        if bool((off < -1e-9).any()):
            raise DataError(
                "the results have other p-values than this calibration gives: they are of another "
                "detector or monitor, or it was calibrated anew. Make a new watch of the monitor."
            )


def _names(rule: DecisionRule) -> list[str]:
    return [*rule.each, *([COMBINED] if rule.fusion is not None else [])]


def score_vector(given: Any) -> Vector:
    """(N,) float64 of bare scores; what has no score is the most extreme.

    Args:
        given: a tensor, an array or a list.

    Raises:
        DataError: it is no vector of real numbers.
    """
    return _without_nan(_vector(given, "scores", whole=False).astype(np.float64))


def _vector(given: Any, what: str, *, whole: bool) -> Vector:
    """(N,) on the CPU in NumPy, whole or real numbers, as exact as they came."""
    expected = "expected one number per item, (N,), or what monitor.predict gives."
    if np.ma.is_masked(given):
        raise DataError(f"{what} have masked entries; {expected}")
    try:
        found = _of_tensor(given) if isinstance(given, Tensor) else np.asarray(given)
    except (TypeError, ValueError, RuntimeError, OverflowError) as error:
        raise DataError(f"{what} are {type_named(given)} ({error}); {expected}") from error
    if found.ndim != 1 or (found.size and found.dtype.kind not in ("biu" if whole else "biuf")):
        raise DataError(f"{what} have shape {found.shape} and type {found.dtype}; {expected}")
    return found


def _of_tensor(given: Tensor) -> Vector:
    """In NumPy, which has no bfloat16 and its like."""
    return given.detach().to("cpu", torch.float64 if given.is_floating_point() else None).numpy()


def _without_nan(scores: Vector) -> Vector:
    """What has no score is the most extreme."""
    return np.where(np.isnan(scores), np.inf, scores)
