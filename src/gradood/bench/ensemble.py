"""Detectors fitted and scored over shards, every one of them in the same pass."""

import sys
from collections.abc import Collection, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from gradood.bench.cache_key import detector_version
from gradood.bench.readings import Gathering, Seen, in_larger_batches
from gradood.bench.shards import Shard
from gradood.detectors.base import Detector, Learner, Partial, Plan, State
from gradood.engine.rows import measured, own_terms, state_for
from gradood.errors import DataError, TapError
from gradood.io.cache import Place, key_of, tensors_digest
from gradood.io.json import plain

__all__ = ["Scores", "Team"]

_STATE = "state."


@dataclass(frozen=True, eq=False, slots=True)
class Scores:
    """Of one data set.

    Attributes:
        by_method: name → (n,) float64, higher = more out-of-distribution; +inf where the model came
            to no answer.
        predicted: (n,) int64 class with the largest logit; −1 where there is none.
    """

    by_method: dict[str, Tensor]
    predicted: Tensor


@dataclass(eq=False, slots=True)
class Team:
    """Detectors bound to one model, what they learned, and which of them had to be left out.

    Attributes:
        gathering: reads the model.
        detectors: by name.
        required: names that must not be left out.
        states: what was learned.
        left_out: why a detector was left out, by name.
    """

    gathering: Gathering
    detectors: dict[str, Detector]
    required: Collection[str] = ()
    states: dict[str, State] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)

    def fit(self, shards: Sequence[Shard]) -> None:
        """Learn from all shards; what was learned from the same before is taken from the cache.

        Raises:
            DataError: there is no sample, one is not finite, or a required detector refuses them.
            TapError: a required detector cannot finish.
        """
        learners = {n: d for n, d in self.detectors.items() if isinstance(d, Learner)}
        places = self._state_places(learners, shards)
        kept: set[str] = set()
        for name, place in places.items():
            found = place.load()
            if found:
                kept.add(name)
                self.states[name] = {
                    key.removeprefix(_STATE): tensor for key, tensor in found.items()
                }
        self._learn({n: d for n, d in learners.items() if n not in self.states}, shards)
        for name, place in places.items():
            if name in self.states and name not in kept:
                state = {f"{_STATE}{key}": tensor for key, tensor in self.states[name].items()}
                with suppress(TypeError, ValueError):  # A type that safetensors has no name for.
                    place.save(state)

    def score(self, shards: Sequence[Shard], *, what: str = "score") -> Scores:
        """Scores of every sample.

        Args:
            shards: of one data set.
            what: that is, in a word.

        Raises:
            DataError, TapError: a required detector refuses what was read.
        """
        parts = [self._shard_scores(shard) for shard in _shown(shards, what)]
        names = list(self.detectors)
        empty = torch.empty(0, dtype=torch.float64)
        return Scores(
            {n: torch.cat([part.by_method[n] for part in parts] or [empty]) for n in names},
            torch.cat([part.predicted for part in parts] or [empty.long()]),
        )

    # -- learning -------------------------------------------------------------------------

    def _learn(self, learners: dict[str, Learner], shards: Sequence[Shard]) -> None:
        if not learners:
            return
        plans = self.gathering.binding.plans
        totals: dict[str, Partial] = {}
        count = 0
        for shard in _shown(shards, "fit"):
            reads = [read for name in learners for read in plans[name].fit_reads]
            for seen in self.gathering.evidence(shard, reads):
                _refuse_lost(seen)
                count += seen.evidence.size
                for name in list(learners):
                    self._accumulate(name, learners, seen, totals)
        if not count:
            raise DataError("fit was given no sample; give in-distribution training data.")
        for name, learner in learners.items():
            try:
                with own_terms():
                    self.states[name] = learner.finish(
                        totals.pop(name), self.gathering.binding.network, plans[name]
                    )
            except (DataError, TapError) as error:
                self._leave_out(name, error)

    def _accumulate(
        self, name: str, learners: dict[str, Learner], seen: Seen, totals: dict[str, Partial]
    ) -> None:
        learner = learners[name]
        own = seen.evidence.only(self.gathering.binding.plans[name].fit_reads)
        try:
            with own_terms(own.readings[0].device):
                part = learner.accumulate(own)
                totals[name] = learner.merge(totals[name], part) if name in totals else part
        except (DataError, TapError) as error:
            del learners[name]
            self._leave_out(name, error)

    def _leave_out(self, name: str, error: Exception) -> None:
        if name in self.required:
            raise error
        self.left_out[name] = str(error)
        self.detectors.pop(name)
        self.states.pop(name, None)

    def _state_places(
        self, learners: dict[str, Learner], shards: Sequence[Shard]
    ) -> dict[str, Place]:
        """Where what each learns from these shards is kept."""
        cache = self.gathering.cache
        if cache is None or not learners:
            return {}
        contents = [shard.content() for shard in shards]
        if None in contents:
            return {}
        labels = {
            str(i): shard.labels for i, shard in enumerate(shards) if shard.labels is not None
        }
        fit = {"contents": contents, "labels": tensors_digest(labels)}
        plans = self.gathering.binding.plans
        return {
            name: cache.place(
                key_of(**self.gathering.identity, fit=fit, detector=_version(one, plans[name]))
            )
            for name, one in learners.items()
        }

    # -- scoring --------------------------------------------------------------------------

    def _shard_scores(self, shard: Shard) -> Scores:
        plans = self.gathering.binding.plans
        place, keys = self._bulky_scores(shard)
        kept = {} if place is None else place.load(keys.values())
        done = {n: kept[k] for n, k in keys.items() if k in kept and len(kept[k]) == shard.size}
        pending = [name for name in self.detectors if name not in done]
        parts: dict[str, list[Tensor]] = {name: [] for name in pending}
        predicted: list[Tensor] = []
        reads = [read for name in pending for read in plans[name].reads]
        batches = self.gathering.evidence(shard, reads)
        for seen in in_larger_batches(batches, self.gathering.rows_at_once):
            lost = seen.lost.cpu()
            predicted.append(seen.evidence.logits.argmax(1).cpu().masked_fill(lost, -1))
            for name in [name for name in pending if name in self.detectors]:
                try:
                    parts[name].append(self._measure(name, seen).masked_fill(lost, torch.inf))
                except (DataError, TapError) as error:
                    self._leave_out(name, error)
        empty = torch.empty(0, dtype=torch.float64)
        new = {n: torch.cat(parts[n] or [empty]) for n in pending if n in self.detectors}
        if place is not None:
            place.save({keys[name]: scores for name, scores in new.items() if name in keys})
        return Scores(done | new, torch.cat(predicted or [empty.long()]))

    def _measure(self, name: str, seen: Seen) -> Tensor:
        own = seen.evidence.only(self.gathering.binding.plans[name].reads)
        state = state_for(self.states, name, own)
        return measured(self.detectors[name], own, state, own.readings[0].device)

    def _bulky_scores(self, shard: Shard) -> tuple[Place | None, dict[str, str]]:
        """Where scores by readings that are too large to keep are kept instead."""
        plans = self.gathering.binding.plans
        bulky = [name for name in self.detectors if self.gathering.bulky(plans[name].reads)]
        place = self.gathering.place(shard) if bulky else None
        if place is None:
            return None, {}
        return place, {
            name: key_of(
                scores=_version(self.detectors[name], plans[name]),
                state=tensors_digest(self.states.get(name, {})),
            )
            for name in bulky
        }


def _shown(shards: Sequence[Shard], what: str) -> Iterable[Shard]:
    """With a bar, on a terminal."""
    hidden = len(shards) < 2 or not sys.stderr.isatty()
    return tqdm(shards, desc=what, unit="shard", leave=False, disable=hidden)


def _version(detector: Detector, plan: Plan) -> dict[str, Any]:
    """What a detector's state and scores depend on, besides what it reads."""
    return {
        **detector_version(type(detector)),
        "options": plain(detector.options()),
        "plan": repr(plan),
    }


def _refuse_lost(seen: Seen) -> None:
    if bool(seen.lost.any()):
        row = int(seen.lost.nonzero()[0])
        raise DataError(
            f"row {row} of a batch of {seen.evidence.size} fit inputs holds NaN or infinity, or "
            "has logits of such; a fit needs clean data and an answer of the model to all of it: "
            "drop such inputs, or repair the model."
        )
