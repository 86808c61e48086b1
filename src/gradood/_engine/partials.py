"""What a fit has seen so far: a part per detector, and which samples they were."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from gradood._engine.agreement import Agreement
from gradood._engine.rows import Inputs
from gradood._io.arguments import type_named
from gradood.artifact import Override
from gradood.errors import CalibrationError, ConfigError, DataError
from gradood.functional._tensor_shapes import checked
from gradood.functional.samples import Chunks
from gradood.taps import Arguments, attended, positions, sequences

__all__ = ["DataSummary", "OVERLAP", "Partials", "overlap_override", "require_partials"]

OVERLAP = "calibration overlaps the fit"
"""What an override of that refusal is called."""


@dataclass(frozen=True, eq=False, slots=True)
class DataSummary:
    """Which samples were seen, and in what range their values lie.

    Attributes:
        chunks: of int64 content keys, one key per sample.
        counts: (classes,) int64 samples of each true class, or None without (sound) labels.
        predicted: (classes,) int64 samples of each predicted class, or None if unknown.
        low: (channels,) smallest value of each input channel, or of all; of arguments, (tensors,
            columns), a row of each tensor.
        high: (channels,) largest.
        agreement: of the labels with what the model predicts, or None without (sound) labels.
    """

    chunks: Chunks[Tensor]
    counts: Tensor | None
    low: Tensor
    high: Tensor
    predicted: Tensor | None = None
    agreement: Agreement | None = None

    @staticmethod
    def of(
        inputs: Inputs, keys: Tensor, labels: Tensor | None = None, logits: Tensor | None = None
    ) -> "DataSummary":
        """One batch.

        Args:
            inputs: of at least one row.
            keys: (batch,) their content keys.
            labels: (batch,) true classes, or (batch, classes) of 0 and 1, or None.
            logits: (batch, classes), beside labels.
        """
        classes = 0 if logits is None else logits.shape[1]
        known = None if labels is None else labels.cpu()
        if known is not None and known.ndim == 2:  # Several may hold: compared with no prediction.
            counts = known.sum(0)
            return DataSummary(Chunks.of(keys.cpu()), counts, *_range(inputs))
        if known is not None and not bool(((known >= 0) & (known < classes)).all()):
            known = None  # A detector that needs them has refused them; others do not look.
        counts = None if known is None else torch.bincount(known, minlength=classes)
        low, high = _range(inputs)
        agreement = None
        if known is not None and logits is not None:
            agreement = Agreement.of(known, logits.argmax(1), classes)
        return DataSummary(Chunks.of(keys.cpu()), counts, low, high, agreement=agreement)

    @property
    def keys(self) -> Tensor:
        """(n,) int64. Cost: joins all batches."""
        return torch.cat(tuple(self.chunks))

    def bounds(self, example: Inputs) -> tuple[Tensor, Tensor]:
        """Smallest and largest value of each channel, or of all where channels are others.

        Args:
            example: (1, …) or more, of the inputs that the range is wanted for.
        """
        if isinstance(example, Arguments):
            return self.low, self.high
        if example.ndim > 1 and len(self.low) in (1, example.shape[1]):
            return self.low, self.high
        return self.low.amin(), self.high.amax()

    def merge(self, other: "DataSummary") -> "DataSummary":
        """The samples of both."""
        counts = None
        if self.counts is not None and other.counts is not None:
            counts = self.counts + other.counts
        predicted = None
        if self.predicted is not None and other.predicted is not None:
            predicted = self.predicted + other.predicted
        agreement = None
        if self.agreement is not None and other.agreement is not None:
            agreement = self.agreement.merge(other.agreement)
        low, high, other_low, other_high = self.low, self.high, other.low, other.high
        if low.shape != other_low.shape:  # Token ids of two lengths
            low, other_low = low.amin(-1, keepdim=True), other_low.amin(-1, keepdim=True)
            high, other_high = high.amax(-1, keepdim=True), other_high.amax(-1, keepdim=True)
        return DataSummary(
            self.chunks + other.chunks,
            counts,
            torch.minimum(low, other_low),
            torch.maximum(high, other_high),
            predicted,
            agreement,
        )

    def tensors(self) -> dict[str, Tensor]:
        """Every tensor by name; the keys in the order in which they were seen."""
        named = {"keys": self.keys, "low": self.low, "high": self.high}
        known = {"counts": self.counts, "predicted": self.predicted}
        named |= {name: tensor for name, tensor in known.items() if tensor is not None}
        return named if self.agreement is None else {**named, **self.agreement.tensors()}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor]) -> "DataSummary":
        """What `tensors` gave.

        Raises:
            DataError: they are others.
        """
        sides = "tensors columns" if tensors.get("low", torch.zeros(1)).ndim == 2 else "channels"
        shapes = ("keys: int samples", f"low: float64 {sides}", f"high: float64 {sides}")
        more = ("counts?: int classes", "predicted?: int labels")
        checked("a summary", tensors, *shapes, *more, "pairs?: int _", "classes?: int")
        agreement = Agreement.from_tensors(tensors) if "pairs" in tensors else None
        chunks, low, high = Chunks.of(tensors["keys"]), tensors["low"], tensors["high"]
        return cls(chunks, tensors.get("counts"), low, high, tensors.get("predicted"), agreement)


_CATEGORIES = 64
"""Columns of whole numbers at most that are taken for categories."""


def _columns(inputs: Arguments) -> Iterator[Tensor]:
    """Every tensor as (batch, channels, …), where each channel has a range of its own."""
    mask = attended(inputs)
    within = {} if mask is None else sequences(inputs, mask.shape[1])
    for name, leaf in inputs.leaves.items():
        whole = leaf.ndim == 2 and not leaf.is_floating_point() and leaf.shape[1] <= _CATEGORIES
        yield leaf if whole and name not in within else leaf.reshape(len(leaf), 1, -1)


def _filled(values: Tensor, width: int) -> Tensor:
    """(width,) with the last value to the end."""
    return torch.cat([values, values[-1:].expand(width - len(values))])


def _range(inputs: Inputs) -> tuple[Tensor, Tensor]:
    """(channels,) smallest and largest values; of arguments, (tensors, columns).

    Whole numbers (batch, columns) that are no sequence may be categories, with a range for each
    column; of any other tensor all columns are alike.
    """
    if isinstance(inputs, Arguments):
        each = [_range(leaf) for leaf in _columns(inputs)]
        widest = max(len(low) for low, _ in each)
        low, high = (
            torch.stack(
                [
                    values.expand(widest) if len(values) == 1 else _filled(values, widest)
                    for values in bounds
                ]
            )
            for bounds in zip(*each, strict=True)
        )
        return low, high
    values = positions(inputs.detach(), min(1, inputs.ndim - 1))
    if values.dtype == torch.bool:
        values = values.to(torch.uint8)
    low, high = (bound.double().cpu() for bound in (values.amin((0, 2)), values.amax((0, 2))))
    return low, high


class Partials(Mapping[str, Any]):
    """Detector name → what it has seen of the fit data.

    Attributes:
        seen: which samples that was; None for none.
        refused: why a detector that may be left out could not learn from them, by name.
        models: digests of the models that they were read off; empty if unknown.
    """

    def __init__(
        self,
        parts: Mapping[str, Any],
        seen: DataSummary | None,
        refused: Mapping[str, str] | None = None,
        models: frozenset[str] = frozenset(),
    ) -> None:
        self._parts = dict(parts)
        self.seen = seen
        self.refused = dict(refused or {})
        self.models = models

    def __getitem__(self, name: str) -> Any:
        return self._parts[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._parts)

    def __len__(self) -> int:
        return len(self._parts)

    def read_off(self, models: frozenset[str]) -> "Partials":
        """The same, with the digests of the models that they were read off."""
        return Partials(self._parts, self.seen, self.refused, models)

    def __repr__(self) -> str:
        samples = 0 if self.seen is None else sum(map(len, self.seen.chunks))
        return f"Partials({', '.join(self._parts) or 'no detector'}; {samples} samples)"


def require_partials(*given: object) -> None:
    """Refuse what no accumulation gave.

    Raises:
        DataError: one is something else.
    """
    for one in given:
        if not isinstance(one, Partials):
            raise DataError(
                f"{type_named(one)} was given as a part of the fit data; expected what "
                "monitor.accumulate(data) returns. To learn from data at once: monitor.fit(data)."
            )


def overlap_override(
    calibrated: DataSummary, fitted: DataSummary | None, reason: str | None
) -> tuple[Override, ...]:
    """The override to stamp where calibration data was fitted on; refused without a reason.

    Args:
        calibrated: the calibration data.
        fitted: the fit data, or None if nothing was fitted.
        reason: why it is right, in the user's words.

    Raises:
        CalibrationError: samples are shared, and no reason is given.
    """
    if not (reason is None or isinstance(reason, str)):
        raise ConfigError(f"allow_overlap={reason!r}; expected the reason in words, or None.")
    keys = calibrated.keys
    shared = 0 if fitted is None else int(torch.isin(keys, fitted.keys).sum())
    if not shared:
        return ()
    finding = f"{shared} of {len(keys)} calibration samples were also fitted on"
    if not reason or not reason.strip():
        raise CalibrationError(
            f"{finding}, so their scores are not those of new data and no false-alarm rate can be "
            "promised. Give held-out data, or say why it is right with allow_overlap='reason'."
        )
    return (Override(what=OVERLAP, reason=reason.strip(), details=(finding,)),)
