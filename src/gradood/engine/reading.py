"""What was read of one batch, and batches of it joined into larger ones."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from gradood.engine.rows import Inputs, refuse_nonfinite
from gradood.errors import DataError
from gradood.evidence import Evidence

__all__ = ["BatchReading", "regrouped"]


@dataclass(frozen=True, eq=False, slots=True)
class BatchReading:
    """What was read of one batch.

    Attributes:
        evidence: all that was asked for; its rows are those of the batch.
        nonfinite: (batch,) bool, rows whose input holds NaN or infinity; they were read as zeros.
        inputs: as the model took them; None where nothing was run, or batches were joined.
    """

    evidence: Evidence
    nonfinite: Tensor
    inputs: Inputs | None = None

    @property
    def lost(self) -> Tensor:
        """(batch,) bool on the CPU: rows whose input is not finite, or the model's answer."""
        return self.nonfinite.cpu() | (~self.evidence.sound).cpu()

    def predicted(self, lost: Tensor) -> Tensor:
        """(batch,) int64 on the CPU: the class of the largest logit; −1 where a row is lost.

        Args:
            lost: (batch,) bool, as above.
        """
        return self.evidence.logits.argmax(1).cpu().masked_fill(lost, -1)

    def refuse_unsound(self, what: str) -> None:
        """Raise where learning would take up NaN or infinity, of the inputs or made by the model.

        Args:
            what: the work, such as ``fit``.

        Raises:
            DataError: a row is not finite, or its logits are not; says which.
        """
        refuse_nonfinite(~self.nonfinite, what)
        sound = self.evidence.sound
        if not bool(sound.all()):
            row = int((~sound).nonzero()[0])
            raise DataError(
                f"row {row} of a batch of {len(sound)} {what} inputs has logits of NaN or "
                "infinity, which the model made of finite inputs; drop such inputs, or repair the "
                "model."
            )


def regrouped(readings: Iterable[BatchReading], size: int) -> Iterator[BatchReading]:
    """The same rows, about a thousand at a time: dozens of detectors do little on few rows.

    Args:
        readings: of a shard.
        size: rows that are waited for.
    """
    waiting: list[BatchReading] = []
    rows = 0
    for reading in readings:
        waiting.append(replace(reading, inputs=None))
        rows += reading.evidence.size
        if rows >= size:
            yield _joined(waiting)
            waiting, rows = [], 0
    if waiting:
        yield _joined(waiting)


def _joined(parts: Sequence[BatchReading]) -> BatchReading:
    evidence = Evidence.joined([part.evidence for part in parts])
    return BatchReading(evidence, torch.cat([part.nonfinite for part in parts]))
