"""What a fit has seen so far: a part per detector, and which samples they were."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from gradood.artifact import Override
from gradood.detectors.base import Partial
from gradood.errors import CalibrationError
from gradood.taps import positions

__all__ = ["OVERLAP", "Partials", "Seen", "overlap_override"]

OVERLAP = "calibration overlaps the fit"
"""What an override of that refusal is called."""


@dataclass(frozen=True, eq=False, slots=True)
class Seen:
    """Which samples were seen, and in what range their values lie.

    Attributes:
        keys: (n,) int64 content keys, one per sample.
        counts: (classes,) int64 samples of each true class, or None without (sound) labels.
        low: (channels,) smallest value of each input channel, or of all.
        high: (channels,) largest.
    """

    keys: Tensor
    counts: Tensor | None
    low: Tensor
    high: Tensor

    @staticmethod
    def of(x: Tensor, keys: Tensor, labels: Tensor | None = None, classes: int = 0) -> "Seen":
        """One batch.

        Args:
            x: (batch ≥ 1, …) inputs.
            keys: (batch,) their content keys.
            labels: (batch,) true classes, or None.
            classes: how many there are.
        """
        values = positions(x.detach(), min(1, x.ndim - 1))
        if values.dtype == torch.bool:
            values = values.to(torch.uint8)
        known = None if labels is None else labels.cpu()
        if known is not None and not bool(((known >= 0) & (known < classes)).all()):
            known = None  # A detector that needs them has refused them; others do not look.
        counts = None if known is None else torch.bincount(known, minlength=classes)
        low, high = (bound.double().cpu() for bound in (values.amin((0, 2)), values.amax((0, 2))))
        return Seen(keys.cpu(), counts, low, high)

    def merge(self, other: "Seen") -> "Seen":
        """The samples of both."""
        known = self.counts is not None and other.counts is not None
        return Seen(
            torch.cat([self.keys, other.keys]),
            self.counts + other.counts if known else None,  # type: ignore[operator]
            torch.minimum(self.low, other.low),
            torch.maximum(self.high, other.high),
        )


class Partials(Mapping[str, Partial]):
    """Detector name → what it has seen of the fit data.

    Attributes:
        seen: which samples that was; None for none.
    """

    def __init__(self, parts: Mapping[str, Partial], seen: Seen | None) -> None:
        self._parts = dict(parts)
        self.seen = seen

    def __getitem__(self, name: str) -> Partial:
        return self._parts[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._parts)

    def __len__(self) -> int:
        return len(self._parts)


def overlap_override(
    calibrated: Seen, fitted: Seen | None, reason: str | None
) -> tuple[Override, ...]:
    """The override to stamp where calibration data was fitted on; refused without a reason.

    Args:
        calibrated: the calibration data.
        fitted: the fit data, or None if nothing was fitted.
        reason: why it is right, in the user's words.

    Raises:
        CalibrationError: samples are shared, and no reason is given.
    """
    keys = calibrated.keys
    shared = 0 if fitted is None else int(torch.isin(keys, fitted.keys).sum())
    if not shared:
        return ()
    found = f"{shared} of {len(keys)} calibration samples were also fitted on"
    if not reason or not reason.strip():
        raise CalibrationError(
            f"{found}, so their scores are not those of new data and no false-alarm rate can be "
            "promised. Give held-out data, or say why it is right with allow_overlap='reason'."
        )
    return (Override(what=OVERLAP, reason=reason.strip(), details=(found,)),)
