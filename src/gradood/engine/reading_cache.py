"""A cache of readings, learned states and scores of shards, under what they were made of."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from gradood.detectors.base import Detector, Plan
from gradood.engine.batches import Shard
from gradood.io.cache import Cache, Place, key_of, tensors_digest

__all__ = ["ReadingCache", "store_state", "stored_state"]

_STATE = "state."


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


def stored_state(place: Place) -> dict[str, Tensor]:
    """The state kept at a place; empty if there is none."""
    return {name.removeprefix(_STATE): tensor for name, tensor in place.load().items()}


def store_state(place: Place, state: Mapping[str, Tensor]) -> None:
    """Keep a state, unless it has a type that safetensors has no name for."""
    with suppress(TypeError, ValueError):
        place.save({f"{_STATE}{name}": tensor for name, tensor in state.items()})
