"""Evidence of one batch: what detectors asked for, by name."""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from gradood.errors import TapError, UnknownNameError, suggest
from gradood.evidence.named_reads import Reads
from gradood.evidence.requests import FEATURES, LOGITS, Gradient, Perturbed, Read

__all__ = ["Evidence", "Linear", "needs_head"]


@dataclass(frozen=True, eq=False, slots=True)
class Linear:
    """The head's numbers, as they were when the batch was read.

    Attributes:
        weight: (classes, width).
        bias: (classes,) or None.
    """

    weight: Tensor
    bias: Tensor | None


@dataclass(frozen=True, eq=False, slots=True)
class Evidence:
    """What was read of one batch; plain tensors without graph, row i of each about sample i.

    `evidence["features"]` is the reading that a plan names so, `evidence.group("shares")` all
    those of one name; `evidence[FEATURES]` is the same by its request.

    Attributes:
        size: number of samples.
        classes: number of classes.
        head: the head's weight and bias, or None if no detector reads features.
        labels: (batch,) int64 true classes, or None; (batch, classes) of 0 and 1 where several may
            hold.
        reads: what was asked for, in order, repetitions included.
    """

    size: int
    classes: int
    head: Linear | None
    labels: Tensor | None
    reads: tuple[Read, ...]
    _read: dict[Read, Tensor]

    def __post_init__(self) -> None:
        object.__setattr__(self, "reads", Reads(self.reads))

    @staticmethod
    def of(
        readings: Mapping[Read, Tensor],
        *,
        classes: int,
        head: Linear | None = None,
        labels: Tensor | None = None,
    ) -> "Evidence":
        """Evidence that was read elsewhere, such as logits and features from a file.

        Args:
            readings: request → (batch, …).
            classes: number of classes.
            head: where features are among them.
            labels: (batch,) int64, or None.
        """
        size = len(next(iter(readings.values())))
        return Evidence(size, classes, head, labels, tuple(readings), dict(readings))

    def __getitem__(self, key: str | Read) -> Tensor:
        """The reading of that name, or of that request.

        Raises:
            UnknownNameError: the plan names none so, or several that differ.
        """
        if not isinstance(key, str):
            return self._read[key]
        reads = set(self._named.named(key))
        if len(reads) == 1:
            return self._read[reads.pop()]
        if reads:
            raise UnknownNameError(
                f"{len(reads)} readings are called {key!r}; evidence.group({key!r}) gives them all."
            )
        hint = suggest(key, self._named.names)
        raise UnknownNameError(f"nothing that was read is called {key!r}; {hint}")

    def __contains__(self, key: str | Read) -> bool:
        return key in self._named.names if isinstance(key, str) else key in self.reads

    def group(self, name: str) -> tuple[Tensor, ...]:
        """Every reading of that name, in the order of the plan; none if it asked for none."""
        return tuple(self._read[read] for read in self._named.named(name))

    def sites(self, name: str) -> tuple[str, ...]:
        """Where each reading of `group` was taken, in words; "" of those of no layer."""
        return tuple(str(getattr(read, "site", "")) for read in self._named.named(name))

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """One tensor, the batch first, per request in `reads`."""
        return tuple(self._read[read] for read in self.reads)

    @property
    def readings(self) -> tuple[Tensor, ...]:
        """As `tensors`; deprecated, as a place in a tuple says nothing of what is there."""
        warnings.warn(
            "evidence.readings is deprecated; take evidence['name'], or evidence.group('name'), "
            "by the names of the plan.",
            DeprecationWarning,
            stacklevel=2,
        )
        return self.tensors

    @property
    def device(self) -> torch.device:
        """Where the readings are."""
        return next(iter(self._read.values())).device

    def only(self, reads: Sequence[Read]) -> "Evidence":
        """The part of the evidence that one detector asked for, by the names it gave."""
        own = Reads(reads)
        needed = any(needs_head(read) for read in own)
        readings = {read: self._read[read] for read in own}
        return replace(self, reads=own, _read=readings, head=self.head if needed else None)

    @staticmethod
    def joined(parts: Sequence["Evidence"]) -> "Evidence":
        """Several batches, of the same model and reads, as one."""
        first = parts[0]
        if len(parts) == 1:
            return first
        labels = [part.labels for part in parts if part.labels is not None]
        return replace(
            first,
            size=sum(part.size for part in parts),
            labels=torch.cat(labels) if len(labels) == len(parts) else None,
            _read={read: torch.cat([part[read] for part in parts]) for read in first._read},
        )

    @property
    def logits(self) -> Tensor:
        """(batch, classes) in float64."""
        return self._read[LOGITS]

    @property
    def sound(self) -> Tensor:
        """(batch,) bool, whether the model came to an answer: no NaN, and a finite largest logit.

        Where it did not, activations are NaN or infinite, which a score may not show: no NaN counts
        as an active ReLU, and clipping makes an infinity ordinary.
        """
        return self._read[LOGITS].amax(1).isfinite()

    @property
    def features(self) -> Tensor:
        """(batch, width) in float32 or wider."""
        return self._read[FEATURES]

    @property
    def linear(self) -> Linear:
        """The head, which comes with the features.

        Raises:
            TapError: of the model the features alone are named.
        """
        if self.head is None:
            raise TapError("the features alone are named, and no linear map makes logits of them.")
        return self.head

    @property
    def _named(self) -> Reads:
        return Reads(self.reads)


def needs_head(read: Read) -> bool:
    """Whether the features, and with them the head, must be found to serve a request."""
    if isinstance(read, Perturbed):
        return read.what == FEATURES
    return read == FEATURES or (isinstance(read, Gradient) and read.objective.features)
