"""What a guard's file says beyond its monitor: the data it was made from, and doubts about that."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

__all__ = ["GuardRecord", "described"]


@dataclass(frozen=True, slots=True, kw_only=True)
class GuardRecord:
    """How a guard was made.

    Attributes:
        reason: why these detectors, in words.
        known: samples of held-out data that were given.
        fitted: how many of them the detectors learned from; the others calibrate.
        labeled: whether they had labels.
        accuracy: share of the labels of the calibration part that the network predicts, or None.
        doubts: why the data looks as if the network was trained on it, in words.
    """

    reason: str
    known: int
    fitted: int
    labeled: bool
    accuracy: float | None
    doubts: tuple[str, ...] = ()

    def recalibrated(self, samples: int) -> "GuardRecord":
        """The record after a calibration on other data, of which nothing but its size is known."""
        known = self.fitted + samples
        return replace(self, known=known, labeled=False, accuracy=None, doubts=())


def described(record: GuardRecord) -> Iterator[str]:
    """The record as sentences, for a model card."""
    use = f"{record.known - record.fitted:,} calibrate"
    if record.fitted:
        use = f"{record.fitted:,} of them fit the detectors and {use}"
    labels = "with labels" if record.labeled else "without labels"
    yield f"Detectors: {record.reason}."
    yield f"Known data: {record.known:,} samples {labels}; {use}."
    if record.fitted and not record.labeled:
        yield "Without labels, the classes of what is fitted on are those that the model predicts."
    yield (
        "The known data must be held out from the training of the network. On images that it was "
        "trained on, a promised 5 % became 9.5 %."
    )
    if record.accuracy is not None:
        yield (
            f"The network predicts {record.accuracy:.1%} of the labels of the calibration part. "
            "Compare that with its accuracy on data that it was not trained on: more is a sign of "
            "training data."
        )
    for doubt in record.doubts:
        yield f"Doubt: {doubt}"
