"""Scores of batches and of data sets, by every detector of a set in the same pass."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain

import torch
from torch import Tensor

from gradood._engine.batches import Batch, Shard
from gradood._engine.binding import REFUSALS
from gradood._engine.detector_set import DetectorSet, UnboundSet, detached
from gradood._engine.progress import shown_shards
from gradood._engine.readings import regrouped
from gradood._engine.rows import finite_rows, refuse_nonfinite, row_count, selected
from gradood._io.cache import Place
from gradood.calibration.results import BatchScores
from gradood.evidence import KEYS, LOGITS, Basic, Read

__all__ = ["finite_batches", "score_batch", "score_batches", "score_shards"]


def score_batch(
    detectors: DetectorSet,
    batch: Batch,
    extra: tuple[Read, ...] = (),
    keep: tuple[Basic, ...] = (),
) -> BatchScores:
    """Scores of one batch; classes and content keys if LOGITS and KEYS are among `extra`.

    Args:
        detectors: bound, and fitted where they learn.
        batch: of any number of rows; its labels are not looked at.
        extra: read besides what the detectors ask for.
        keep: read likewise, and kept with the scores: LOGITS or FEATURES.

    Raises:
        DataError: the batch does not fit the model.
        DataError, TapError: a detector refuses what was read.
    """
    size = row_count(batch.inputs)
    if not size:
        return BatchScores.empty(detectors.detectors)
    reads = {name: detectors.reads(name) for name in detectors.detectors}
    wanted = tuple(dict.fromkeys(chain(*reads.values(), extra, keep)))
    reading = detectors.reader.read(Batch(batch.inputs), wanted)
    lost = reading.lost
    scores: dict[str, Tensor] = {}
    with detached(reading.evidence.device):
        for name, requests in reads.items():
            score = detectors.measure(name, requests, reading.evidence)
            scores[name] = score.masked_fill(lost, torch.inf)
    none = torch.zeros(size, dtype=torch.int64, device="cpu")
    label = reading.predicted(lost) if LOGITS in extra else none
    keys = reading.evidence[KEYS].cpu() if KEYS in extra else none
    nonfinite = reading.nonfinite.cpu()
    kept = {read.name: _finite(reading.evidence[read], nonfinite) for read in keep}
    return BatchScores(scores, label, nonfinite, keys, kept)


def _finite(read: Tensor, nonfinite: Tensor) -> Tensor:
    """A reading on the CPU, NaN of the inputs that are not finite, in whose place zeros were."""
    return read.cpu().masked_fill(nonfinite.reshape(-1, *[1] * (read.ndim - 1)), torch.nan)


def score_batches(
    unbound: UnboundSet,
    bound: DetectorSet | None,
    batches: Iterable[Batch],
    extra: tuple[Read, ...] = (),
    each: Callable[[Batch, BatchScores], None] = lambda batch, scores: None,
    keep: tuple[Basic, ...] = (),
) -> tuple[BatchScores, DetectorSet | None]:
    """Scores of a stream of batches, and the detectors, which are bound on its first finite row.

    Args:
        unbound: the detectors and their model.
        bound: the same, bound and fitted where they learn; None if they are yet to be bound.
        batches: of any sizes. They are scored as they come.
        extra: see `score_batch`.
        each: called with each batch that was scored.
        keep: see `score_batch`.

    Returns:
        Of every sample, in order; None beside them if no row showed what the model does.
    """
    parts: list[BatchScores] = []
    leading = 0
    for batch in batches:
        if bound is None:
            inputs = unbound.moved(batch.inputs)
            finite = finite_rows(inputs)
            if not bool(finite.any()):  # Nothing here shows what the model does.
                leading += row_count(inputs)
                continue
            bound = unbound.bind(inputs if bool(finite.all()) else selected(inputs, finite))
        scores = score_batch(bound, batch, extra, keep)
        each(batch, scores)
        parts.append(scores)
    names = unbound.detectors if bound is None else bound.detectors
    if leading or not parts:
        parts.insert(0, BatchScores.lost(names, leading))
    return BatchScores.joined(parts, names), bound


def finite_batches(batches: Iterable[Batch], what: str) -> Iterator[Batch]:
    """The batches that are not empty; for work that needs clean data.

    Args:
        batches: of any sizes.
        what: the work, such as ``calibration``.

    Raises:
        DataError: a row is not finite.
    """
    for batch in batches:
        if row_count(batch.inputs):
            refuse_nonfinite(finite_rows(batch.inputs), what)
            yield batch


def score_shards(
    detectors: DetectorSet, shards: Sequence[Shard], *, what: str = "score"
) -> tuple[BatchScores, DetectorSet]:
    """Scores of every sample, and the set without the detectors that refused one.

    Detectors are given about a thousand rows at once. Scores by readings too large to keep are
    kept themselves, where there is a cache.

    Args:
        detectors: bound, and fitted where they learn.
        shards: of one data set.
        what: that is, in a word.

    Raises:
        DataError, TapError: a required detector refuses what was read.
    """
    remaining, parts = detectors, [BatchScores.empty(detectors.detectors)]
    for shard in shown_shards(shards, what):
        scores, refused = _score_shard(remaining, shard)
        remaining = remaining.without(refused)
        parts.append(scores)
    return BatchScores.joined(parts, remaining.detectors), remaining


def _score_shard(detectors: DetectorSet, shard: Shard) -> tuple[BatchScores, dict[str, str]]:
    """Scores, and why a detector refused."""
    place, keys = _score_place(detectors, shard)
    stored = {} if place is None else place.load(keys.values())
    known = {
        name: stored[key]
        for name, key in keys.items()
        if key in stored and len(stored[key]) == shard.size
    }
    none = torch.empty(0, dtype=torch.int64, device="cpu")
    new = {name: [none.double()] for name in detectors.detectors if name not in known}
    labels, nonfinite = [none], [none.bool()]
    refused: dict[str, str] = {}
    reads = {name: detectors.reads(name) for name in new}
    readings = detectors.reader.shard(shard, chain.from_iterable(reads.values()))
    for reading in regrouped(readings, detectors.reader.group_size):
        lost = reading.lost
        labels.append(reading.predicted(lost))
        nonfinite.append(reading.nonfinite.cpu())
        for name in list(new):
            try:
                scores = detectors.measure(name, reads[name], reading.evidence)
            except REFUSALS as error:
                refused[name] = detectors.refusal(name, error)
                del new[name]
            else:
                new[name].append(scores.masked_fill(lost, torch.inf))
    fresh = {name: torch.cat(parts) for name, parts in new.items()}
    if place is not None:
        place.save({keys[name]: scores for name, scores in fresh.items() if name in keys})
    label = torch.cat(labels)
    joined = torch.cat(nonfinite)
    return BatchScores(known | fresh, label, joined, torch.zeros_like(label)), refused


def _score_place(detectors: DetectorSet, shard: Shard) -> tuple[Place | None, dict[str, str]]:
    """Where scores by readings that are too large to keep are kept instead."""
    plans, reader = detectors.binding.plans, detectors.reader
    bulky = [name for name in detectors.detectors if reader.bulky(plans[name].reads)]
    place = reader.place(shard) if bulky else None
    if place is None or reader.cache is None:
        return None, {}
    return place, {
        name: reader.cache.scores(
            detectors.detectors[name], plans[name], detectors.states.get(name, {})
        )
        for name in bulky
    }
