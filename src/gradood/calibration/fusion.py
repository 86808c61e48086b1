"""Several detectors' scores into one, with the same promise however they depend on each other."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gradood.calibration._curve import Curve, How, known_how
from gradood.calibration._vectors import class_numbers, score_table
from gradood.calibration.conformal import Calibration
from gradood.calibration.fitting import calibrated, warn_of_ties
from gradood.calibration.guarantee import Promise, required
from gradood.errors import (
    ArtifactError,
    CalibrationError,
    ConfigError,
    DataError,
    UnknownNameError,
)

__all__ = ["Fusion", "fuse", "fused", "required_fused"]

_LEAST = 20
_MOST = 2000


@dataclass(frozen=True, eq=False, slots=True)
class Fusion:
    """A fixed, monotone function of several scores; `fuse` makes it and calibrates it.

    Each detector's score becomes a p-value by its rank among the rank part of the calibration data,
    and these are combined:

    - ``"fisher"``: −Σ log p. Evidence adds up.
    - ``"stouffer"``: −Σ Φ⁻¹(p). Detectors that find an input usual speak against the others.
    - ``"cauchy"``: Σ cot(π p) [liu2020cauchy], p above 0.95 counting as 0.95, as otherwise a
      detector that finds an input extremely usual would outvote all others. Ruled by the smallest.
    - ``"min"``: −log min p. One detector is enough.

    The distribution that such a sum has for independent detectors is not used: the sum is a score
    like any other, calibrated on rows that the ranks have not seen.

    Attributes:
        how: the combination.
        names: of the detectors, sorted.
        curves: one per detector, from its score to its summand.
        samples: rows of the rank part.
        seed: of the split.
    """

    how: How
    names: tuple[str, ...]
    curves: tuple[Curve, ...]
    samples: int
    seed: int = 0

    @staticmethod
    def fit(
        scores: Mapping[str, Tensor],
        keys: Tensor,
        how: How,
        *,
        promise: Promise | None = None,
        seed: int = 0,
    ) -> "Fusion":
        """The fusion learned from the rank part of all calibration rows; see `fuse`."""
        table, rank, _ = _split(scores, keys, promise or Promise(), seed)
        return _learned(table, rank, how, seed)

    def statistic(self, scores: Mapping[str, Tensor]) -> Tensor:
        """The combined statistic; higher = more OOD.

        +inf or NaN in any of the scores gives +inf; finite scores give a finite statistic.

        Args:
            scores: detector name → (N,) scores. Others than `names` are not used.

        Returns:
            (N,) float64 on the CPU.

        Raises:
            UnknownNameError: a detector's scores are missing.
            DataError: they differ in length.

        Cost:
            O(N log m) per detector.
        """
        missing = [name for name in self.names if name not in scores]
        if missing:
            raise UnknownNameError(
                f"scores of {missing[0]!r} are missing; this fusion is of {', '.join(self.names)}, "
                f"and was given {', '.join(scores) or 'none'}. Give the scores of all."
            )
        table = score_table({name: scores[name] for name in self.names})
        bad = (table.isnan() | (table == torch.inf)).any(0)
        table = torch.where(bad, 0.0, table)
        total = torch.zeros(table.shape[1], dtype=torch.float64)
        # One after the other: a reduction may sum in an order that depends on the batch.
        for i, curve in enumerate(self.curves):
            new = curve(table[i], self.how)
            merged = torch.maximum(total, new) if self.how == "min" else total + new
            total = new if i == 0 else merged
        return total.masked_fill(bad, torch.inf)

    # -- record ---------------------------------------------------------------------------

    def to_plain(self) -> dict[str, Any]:
        """All but the tensors, as plain JSON values."""
        return {
            "how": self.how,
            "names": list(self.names),
            "scales": [curve.scale for curve in self.curves],
            "samples": self.samples,
            "seed": self.seed,
        }

    def tensors(self) -> dict[str, Tensor]:
        """The curves, numbered as `names`: ``knots.0``, ``values.0``, ``knots.1``, …"""
        knots = {f"knots.{i}": curve.knots for i, curve in enumerate(self.curves)}
        return knots | {f"values.{i}": curve.values for i, curve in enumerate(self.curves)}

    @staticmethod
    def from_plain(plain: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> "Fusion":
        """The fusion again, from `to_plain` and `tensors`; the same to the last bit.

        Raises:
            ArtifactError: the record is malformed, or does not fit the tensors.
        """
        try:
            scales = plain["scales"]
            curves = tuple(
                Curve(tensors[f"knots.{i}"], tensors[f"values.{i}"], scale)
                for i, scale in enumerate(scales)
            )
            made = Fusion(
                known_how(plain["how"]),
                tuple(plain["names"]),
                curves,
                plain["samples"],
                plain["seed"],
            )
            sound = (
                made.to_plain() == plain
                and made.tensors().keys() == tensors.keys()
                and len(scales) == len(set(made.names)) > 0
                and all(curve.sound for curve in curves)
                and type(made.samples) is type(made.seed) is int
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ArtifactError(
                f"this is no fusion record ({error!s}); calibrate and save again."
            ) from error
        if not sound:
            raise ArtifactError(
                "the fusion record does not fit its tensors; calibrate and save again."
            )
        return made


def fuse(
    scores: Mapping[str, Tensor],
    keys: Tensor,
    how: How,
    promise: Promise,
    *,
    predicted: Tensor | None = None,
    per_class: bool = False,
    seed: int = 0,
) -> tuple[Fusion, Calibration]:
    """One decision out of several detectors, that keeps `promise` whatever their dependence.

    The rows are put in the order of their content keys and dealt out by a seeded permutation, so
    that the same data in any order is split alike. The rank part (a third, at most 2,000, less
    where the promise needs the rows) turns scores into p-values; the statistic is calibrated on the
    decision part. Given the rank part the statistic is one fixed function, so that its values on
    the decision part and on inputs to come are as exchangeable as the rows are: the guarantee of
    `calibrate` holds exactly.

    Scores of one input differ by rounding between batches and machines, and where ranked scores are
    tied a curve may be steep, so that no tolerance of the statistic could allow for it. Decide by
    the least statistic that an input may have: that of its scores, each less its own tolerance. It
    is at most what the input would have had here, as curves never fall. So `gradood.Monitor` does.

    Args:
        scores: detector name → (n,) scores of the same held-out in-distribution rows. A row whose
            score is +inf or NaN for any of them has the statistic +inf, as such inputs have.
        keys: (n,) int64, content keys of the rows.
        how: see `Fusion`.
        promise: what is to hold.
        predicted: (n,) predicted classes; needed if `per_class`.
        per_class: compare within predicted classes.
        seed: of the split.

    Returns:
        The fusion, and the calibration of its `statistic`.

    Raises:
        CalibrationError: too few rows, or too many without finite scores.
        ConfigError: no detector, an unknown `how`, or no `predicted`.
        DataError: a shape or dtype is wrong.

    Cost:
        O(n log n) per detector.

    Example:
        >>> generator = torch.Generator().manual_seed(0)
        >>> a, b = torch.randn(2, 200, generator=generator)
        >>> fusion, calibration = fuse({"a": a, "b": b}, torch.arange(200), "fisher", Promise())
        >>> far = {"a": torch.tensor([0.0, 3.0]), "b": torch.tensor([0.0, 3.0])}
        >>> calibration.is_ood(fusion.statistic(far)).tolist()
        [False, True]
    """
    if per_class and predicted is None:
        class_numbers(None, len(keys))  # raises
    fusion, made = fused(scores, keys, how, promise, predicted if per_class else None, seed)
    warn_of_ties(made)
    return fusion, made


def fused(
    scores: Mapping[str, Tensor],
    keys: Tensor,
    how: How,
    promise: Promise,
    classes: Tensor | None,
    seed: int = 0,
) -> tuple[Fusion, Calibration]:
    """`fuse` without a warning.

    Args:
        scores: as there.
        keys: as there.
        how: as there.
        promise: as there.
        classes: (n,) predicted classes to compare within, or None.
        seed: as there.
    """
    table, rank, decision = _split(scores, keys, promise, seed)
    fusion = _learned(table, rank, how, seed)
    statistic = fusion.statistic({name: row[decision] for name, row in table.items()})
    if classes is not None:
        if classes.shape != keys.shape:
            raise DataError(
                f"predicted has shape {tuple(classes.shape)}; expected one class for each of "
                f"{len(keys)} rows."
            )
        classes = classes.detach().cpu()[decision]
    return fusion, calibrated(statistic, promise, classes)


def required_fused(promise: Promise) -> int:
    """The smallest number of calibration rows for a fusion: some to rank by besides `required`."""
    return required(promise) + _LEAST


def _split(
    scores: Mapping[str, Tensor], keys: Tensor, promise: Promise, seed: int
) -> tuple[dict[str, Tensor], Tensor, Tensor]:
    """The scores by sorted name in float64; rows of the rank part; rows of the decision part."""
    if not scores:
        raise ConfigError("no detector was given to combine; give the scores of at least one.")
    names = sorted(scores)
    table = score_table({name: scores[name] for name in names})
    table = torch.where(table.isnan(), torch.inf, table)
    size = table.shape[1]
    if keys.shape != (size,) or keys.dtype != torch.int64:
        raise DataError(
            f"keys have shape {tuple(keys.shape)} and {keys.dtype}; expected the content key, "
            f"int64, of each of {size} rows."
        )
    need = required_fused(promise)
    if size < need:
        raise CalibrationError(
            f"{size} calibration samples were given; {promise} for a combination needs at least "
            f"{need}: {need - _LEAST} to decide by and {_LEAST} to rank by. "
            f"Add {need - size}, promise less, or combine nothing."
        )
    # Copies of one input have one key; their scores tell them apart as far as it matters.
    order = np.lexsort((*table.numpy(), keys.detach().cpu().numpy()))
    dealt = torch.from_numpy(order[np.random.default_rng(seed).permutation(size)])
    ranked = min(max(size // 3, _LEAST), _MOST, size - required(promise))
    return dict(zip(names, table, strict=True)), dealt[:ranked], dealt[ranked:]


def _learned(table: Mapping[str, Tensor], rows: Tensor, how: How, seed: int) -> Fusion:
    known_how(how)
    curves: list[Curve] = []
    for name, scores in table.items():
        # The curves may be any function of these rows: those without a score are left out.
        ranked = scores[rows[scores[rows].isfinite()]]
        if len(ranked) < 2:
            raise CalibrationError(
                f"of {len(rows)} calibration samples to rank {name!r} by, {len(ranked)} have a "
                "finite score; expected at least 2. Combine without this detector."
            )
        curves.append(Curve.of(ranked, how))
    return Fusion(how, tuple(table), tuple(curves), len(rows), seed)
