"""What detectors learn: partials of batches, merged in any order, and states made of them."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from typing import Any

from gradood._engine.batches import Batch, Shard
from gradood._engine.binding import REFUSALS, fit_refusal
from gradood._engine.coverage import class_counts
from gradood._engine.detector_set import DetectorSet, UnboundSet, detached
from gradood._engine.partials import DataSummary, Partials, require_partials
from gradood._engine.progress import shown_shards
from gradood._engine.readings import BatchReading, store_state, stored_state
from gradood._engine.rows import finite_rows, refuse_nonfinite, row_count
from gradood._io.cache import Place
from gradood.detectors.base import Learner
from gradood.errors import DataError, noted_warnings
from gradood.evidence import KEYS, Evidence

__all__ = ["accumulate", "accumulate_batches", "finish", "fit", "merge"]


def fit(
    detectors: DetectorSet, shards: Sequence[Shard], among: Collection[str] | None = None
) -> DetectorSet:
    """The detectors, fitted on all shards; a state kept in the cache is not learned again.

    Args:
        detectors: bound; this set is left as it is.
        shards: of in-distribution data.
        among: names of those that are fitted; None for all that learn.

    Raises:
        DataError: there is no sample, one is not finite, or a required detector refuses them.
        TapError: a required detector cannot finish.

    Cost:
        At most one pass over the data, for all detectors together.
    """
    places = _state_places(detectors, shards)
    if among is not None:
        places = {name: place for name, place in places.items() if name in among}
    known = {name: state for name, place in places.items() if (state := stored_state(place))}
    fitted = replace(detectors, states={**detectors.states, **known})
    wanted = fitted.learners if among is None else among
    names = [n for n in fitted.learners if n in wanted and n not in fitted.states]
    if names:
        partials = accumulate(fitted, shards, names)
        for name in names:
            with noted_warnings() as notes:
                fitted = finish(fitted, partials, [name])
            if name in places and name in fitted.states:
                store_state(places[name], fitted.states[name], notes)
    return fitted


def accumulate(
    detectors: DetectorSet,
    shards: Sequence[Shard],
    names: Collection[str] | None = None,
    *,
    summarize: bool = False,
) -> Partials:
    """What some of the fit data contributes.

    Args:
        detectors: bound.
        shards: of in-distribution data.
        names: detectors that learn from them; None for all that learn.
        summarize: whether to note which samples these are, and their range.

    Raises:
        DataError: there is no sample, one is not finite, or a required detector refuses them.
        TapError: a required detector refuses them.
    """
    learners = {n: d for n, d in detectors.learners.items() if names is None or n in names}
    plans = detectors.binding.plans
    totals: dict[str, Any] = {}
    refused: dict[str, str] = {}
    seen: DataSummary | None = None
    rows = 0
    for shard in shown_shards(shards, "fit"):
        reads = [read for name in learners for read in plans[name].fit_reads]
        for reading in detectors.reader.shard(shard, [*reads, KEYS] if summarize else reads):
            reading.refuse_unsound("fit")
            rows += reading.evidence.size
            for name, learner in list(learners.items()):
                evidence = reading.evidence.only(plans[name].fit_reads)
                try:
                    _check_labels(detectors, name, evidence)
                    totals[name] = _added(learner, evidence, totals.get(name))
                except REFUSALS as error:
                    refused[name] = detectors.refusal(name, error)
                    totals.pop(name, None)
                    del learners[name]
            if summarize:
                summary = _summary(reading)
                seen = summary if seen is None else seen.merge(summary)
    if not rows:
        raise DataError("fit was given no sample; give in-distribution training data.")
    return Partials(totals, seen, refused)


def accumulate_batches(
    unbound: UnboundSet, bound: DetectorSet | None, batches: Iterable[Batch]
) -> tuple[Partials, DetectorSet | None]:
    """What a stream of batches contributes, and the detectors, which are bound on the first batch.

    Args:
        unbound: the detectors and their model.
        bound: the same, bound; None if they are yet to be bound.
        batches: of any sizes. Where no detector learns, only the first is taken.

    Raises:
        DataError: there is no sample, one is not finite, or a required detector refuses them.
        TapError: the model cannot be read, or a required detector refuses it.
        ConfigError: too few detectors can run.
    """
    stream = (batch for batch in batches if row_count(batch.inputs))
    first = next(stream, None)
    if first is None:
        if (bound or unbound).learners:
            raise DataError("fit was given no sample; give in-distribution training data.")
        return Partials({}, None), bound
    if bound is None:
        inputs = unbound.moved(first.inputs)
        refuse_nonfinite(finite_rows(inputs), "fit")
        bound = unbound.bind(inputs, first.labels)
    bound.reader.ready(first.inputs)
    if not bound.learners:
        return Partials({}, None), bound

    def rest() -> Iterator[Batch]:
        return chain([first], stream)

    return accumulate(bound, [Shard(rest)], summarize=True), bound


def merge(learners: Mapping[str, Learner], a: Partials, b: Partials) -> Partials:
    """What two parts of the fit data contribute together.

    Args:
        learners: detectors that learn, by name.
        a: from `accumulate`.
        b: likewise, of other samples.
    """
    require_partials(a, b)
    for part, other in ((a, b), (b, a)):
        if not part and not part.refused:
            return other
    refused = {**a.refused, **b.refused}
    with detached():
        parts = {
            name: learner.merge(a[name], b[name])
            for name, learner in learners.items()
            if name in a and name not in refused
        }
    seen = None if a.seen is None or b.seen is None else a.seen.merge(b.seen)
    return Partials(parts, seen, refused, a.models | b.models)


def finish(
    detectors: DetectorSet, partials: Partials, names: Collection[str] | None = None
) -> DetectorSet:
    """The detectors, with states learned from everything accumulated.

    Args:
        detectors: bound; this set is left as it is.
        partials: merged over all of the fit data.
        names: detectors that learn from it; None for all that learn.

    Raises:
        DataError: the data cannot support a required detector, or nothing was accumulated for one.
        TapError: a required detector cannot finish.
    """
    network, plans = detectors.binding.network, detectors.binding.plans
    refused = dict(partials.refused)
    states = dict(detectors.states)
    for name, learner in detectors.learners.items():
        if name in refused or not (names is None or name in names):
            continue
        if name not in partials:
            raise DataError(f"nothing was accumulated for {name}; accumulate with these detectors.")
        try:
            with detached():
                states[name] = learner.learned(partials[name], network, plans[name])
        except REFUSALS as error:
            refused[name] = detectors.refusal(name, error)
    return replace(detectors, states=states).without(refused)


def _added(learner: Learner, evidence: Evidence, total: Any) -> Any:
    """What a detector has seen, with one more batch."""
    with detached(evidence.device):
        part = learner.accumulate(evidence)
        return part if total is None else learner.merge(total, part)


def _check_labels(detectors: DetectorSet, name: str, evidence: Evidence) -> None:
    """Refuse data without labels for a detector that may be left out; others say so themselves."""
    error = fit_refusal(detectors.detectors[name], fit=True, labels=evidence.labels is not None)
    if error is None or detectors.required is None:
        return
    raise DataError(f"{name} cannot be run: {error}") if name in detectors.required else error


def _summary(reading: BatchReading) -> DataSummary:
    evidence = reading.evidence
    assert reading.inputs is not None
    predicted = class_counts(reading.predicted(reading.lost), evidence.classes)
    # Of a single class, as where outputs are of none, labels say nothing.
    labels = evidence.labels if evidence.classes > 1 else None
    summary = DataSummary.of(reading.inputs, evidence[KEYS], labels, evidence.logits)
    return replace(summary, predicted=predicted)


def _state_places(detectors: DetectorSet, shards: Sequence[Shard]) -> Mapping[str, Place]:
    cache, plans = detectors.reader.cache, detectors.binding.plans
    if cache is None:
        return {}
    learners = {name: (learner, plans[name]) for name, learner in detectors.learners.items()}
    return cache.states(learners, shards)
