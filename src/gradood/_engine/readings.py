"""Readings of batches: joined into larger ones, and kept between runs with what came of them."""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from gradood import errors
from gradood._engine.batches import Shard
from gradood._engine.rows import Inputs, refuse_nonfinite
from gradood._io.cache import Cache, Place, key_of
from gradood._io.hashing import tensors_digest
from gradood._io.json import json_text
from gradood.detectors.base import Detector, Plan
from gradood.errors import DataError, GradoodWarning, warn_caller
from gradood.evidence import Evidence

__all__ = ["BatchReading", "ReadingCache", "regrouped", "store_state", "stored_state"]

_STATE = "state."
_WARNINGS = "warnings"


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

        Where there is one class, as of a regression, it is 0, whatever the outputs are.

        Args:
            lost: (batch,) bool, as above.
        """
        logits = self.evidence.logits
        first = logits[:, :1] if self.evidence.classes == 1 else logits
        return first.argmax(1).cpu().masked_fill(lost, -1)

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


@dataclass(frozen=True, eq=False, slots=True)
class ReadingCache:
    """A cache, and all that an entry depends on besides the data.

    Attributes:
        cache: the folder.
        identity: what readings depend on, in plain values: the model's content, preprocessing,
            batch size, device and code.
        version: what a detector's states and scores depend on besides its readings, in plain
            values: its code, options and plan.
    """

    cache: Cache
    identity: Mapping[str, Any]
    version: Callable[[Detector, Plan], Mapping[str, Any]]

    def readings(self, shard: Shard) -> Place | None:
        """Where what was read of a shard is kept; None if its content is not known."""
        content = shard.content()
        return None if content is None else self.cache.place(key_of(**self.identity, data=content))

    def states(
        self, learners: Mapping[str, tuple[Detector, Plan]], shards: Sequence[Shard]
    ) -> dict[str, Place]:
        """Where what each detector learns from these shards is kept.

        Args:
            learners: name → detector and plan.
            shards: all of the fit data.
        """
        contents = [shard.content() for shard in shards]
        if not learners or None in contents:
            return {}
        labels = {
            str(i): shard.labels for i, shard in enumerate(shards) if shard.labels is not None
        }
        fit = {"contents": contents, "labels": tensors_digest(labels)}
        return {
            name: self.cache.place(
                key_of(**self.identity, fit=fit, detector=self.version(detector, plan))
            )
            for name, (detector, plan) in learners.items()
        }

    def scores(self, detector: Detector, plan: Plan, state: Mapping[str, Tensor]) -> str:
        """The name of a detector's scores among the readings of a shard."""
        return key_of(scores=self.version(detector, plan), state=tensors_digest(state))


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


def stored_state(place: Place) -> dict[str, Tensor]:
    """The state kept at a place; empty if there is none. Gives the warnings of its fit again."""
    stored = place.load()
    state = {
        name.removeprefix(_STATE): tensor
        for name, tensor in stored.items()
        if name.startswith(_STATE)
    }
    for message, kind in _warnings(stored.get(_WARNINGS)):
        warn_caller(message, kind)
    return state


def store_state(
    place: Place,
    state: Mapping[str, Tensor],
    warnings: Iterable[tuple[str, type[GradoodWarning]]] = (),
) -> None:
    """Keep a state, unless it has a type that safetensors has no name for.

    Args:
        place: of the cache.
        state: learned.
        warnings: of its fit, as (message, kind).
    """
    text = json_text([[message, kind.__name__] for message, kind in warnings])
    notes = torch.frombuffer(bytearray(text.encode()), dtype=torch.uint8)
    with suppress(TypeError, ValueError):
        place.save(
            {_WARNINGS: notes, **{f"{_STATE}{name}": tensor for name, tensor in state.items()}}
        )


def _warnings(notes: Tensor | None) -> Iterator[tuple[str, type[GradoodWarning]]]:
    """The warnings that are kept with a state."""
    if notes is None:
        return
    for message, name in json.loads(bytes(notes.tolist())):
        yield message, getattr(errors, name)


def _joined(parts: Sequence[BatchReading]) -> BatchReading:
    evidence = Evidence.joined([part.evidence for part in parts])
    return BatchReading(evidence, torch.cat([part.nonfinite for part in parts]))
