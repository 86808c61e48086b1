"""Scores of calibration data, with what else thresholds are made of; of all of it, or of a part."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import reduce

from gradood._engine.batches import Batch
from gradood._engine.detector_set import DetectorSet, UnboundSet
from gradood._engine.partials import DataSummary
from gradood._engine.reproducibility import RowSample
from gradood._engine.scoring import finite_batches, score_batches
from gradood.calibration.results import BatchScores
from gradood.errors import DataError
from gradood.evidence import KEYS, LOGITS

__all__ = ["CalibrationScores"]


@dataclass(frozen=True, eq=False, slots=True)
class CalibrationScores:
    """Held-out in-distribution data as the detectors see it.

    Attributes:
        scores: of every sample, with predicted classes and content keys.
        bound: the detectors that gave them.
        samples: which samples these are, and their range.
        sample: rows to score again, to see how far scores are reproduced.
    """

    scores: BatchScores
    bound: DetectorSet
    samples: DataSummary
    sample: RowSample

    @staticmethod
    def of(
        unbound: UnboundSet, bound: DetectorSet | None, batches: Iterable[Batch]
    ) -> "CalibrationScores":
        """Scores of a stream of batches.

        Args:
            unbound: the detectors and their model.
            bound: the same, bound and fitted where they learn; None if they are yet to be bound.
            batches: of any sizes.

        Raises:
            DataError: there is no sample, or one is not finite.
        """
        summaries: list[DataSummary] = []
        sample = RowSample()

        def summarize(batch: Batch, scores: BatchScores) -> None:
            summaries.append(DataSummary.of(batch.inputs, scores.keys))
            sample.add(batch.inputs, scores.keys)

        finite = finite_batches(batches, "calibration")
        scores, bound = score_batches(unbound, bound, finite, (LOGITS, KEYS), summarize)
        if not summaries or bound is None:
            raise DataError("calibrate was given no sample; give held-out in-distribution data.")
        return CalibrationScores(scores, bound, reduce(DataSummary.merge, summaries), sample)
