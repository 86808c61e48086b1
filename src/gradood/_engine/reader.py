"""Evidence of batches and shards of one observed model, with an optional cache of readings."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property

import torch
from torch import Tensor

from gradood._engine.batches import Batch, Shard
from gradood._engine.binding import Binding
from gradood._engine.misfits import changed_input
from gradood._engine.readings import BatchReading, ReadingCache
from gradood._engine.rows import Inputs, described, emptied, finite_rows, moved, row_count
from gradood._io.cache import Place, key_of
from gradood.errors import DataError, GradoodError
from gradood.evidence import (
    LOGITS,
    Evidence,
    Linear,
    Read,
    gather,
    made_of_own_parts,
    read_to_plain,
)
from gradood.taps import Arguments, Network, out_of_memory

__all__ = ["BULKY", "Reader"]

BULKY = 16 * 1024
"""Bytes per row beyond which a reading is not kept: a map of 4,096 float32, say. Of methods that
learn from such, what they learned is kept; of those that score by such, the scores."""
_ROWS = 1024
_GROUP_BYTES = 64 * 2**20
"""Bytes of readings that detectors are given at once at most."""


class Reader:
    """Reads batches off a bound model.

    Args:
        binding: the observed network, and what is read of it.
        cache: where readings of shards are kept, or None.
    """

    def __init__(self, binding: Binding, cache: ReadingCache | None = None) -> None:
        self.binding = binding
        self.cache = cache

    # -- batches --------------------------------------------------------------------------

    def ready(self, inputs: Inputs) -> Inputs:
        """Inputs on the model's device, checked against what the model was observed on.

        Raises:
            DataError: they have another rank, type or number of channels, or hold no data.
        """
        network = self.binding.network
        inputs = moved(inputs, network.device)
        changed = changed_input(network, inputs)
        if changed is not None:
            raise DataError(changed)
        return inputs

    def read(self, batch: Batch, reads: Iterable[Read]) -> BatchReading:
        """What is read of one batch of at least one row; logits always come with it.

        Raises:
            DataError: the batch does not fit the model.
        """
        inputs = self.ready(batch.inputs)
        finite = finite_rows(inputs)
        if not bool(finite.all()):
            inputs = emptied(inputs, finite)
        labels = self._labels(batch.labels, row_count(inputs))
        return BatchReading(self.gather(inputs, reads, labels), ~finite, inputs)

    def gather(self, inputs: Inputs, reads: Iterable[Read], labels: Tensor | None) -> Evidence:
        """What is read of inputs that are `ready` and finite.

        Raises:
            DataError: the model cannot run on them, as it or their size is another than before.
        """
        network = self.binding.network
        try:
            return gather(network, inputs, reads, labels)
        except (DataError, RuntimeError) as error:
            cause = error.__cause__ if isinstance(error, DataError) else error
            if cause is None or isinstance(cause, GradoodError) or out_of_memory(cause):
                raise
            why = _why_not_run(network, inputs)
            if why is None:
                raise
            raise DataError(f"{why} {type(cause).__name__}: {cause}") from cause

    # -- shards ---------------------------------------------------------------------------

    def shard(self, shard: Shard, reads: Iterable[Read]) -> Iterator[BatchReading]:
        """What is read of each batch; what is new is kept once the last batch was taken.

        Args:
            shard: of a data set.
            reads: wanted; logits always come with them.
        """
        wanted = tuple(dict.fromkeys([*reads, LOGITS]))
        place = self.place(shard)
        known: dict[Read, Tensor] = {}
        if place is not None:
            names = {read: self._names[read] for read in wanted if read in self._names}
            stored = place.load(names.values())
            known = {
                read: stored[name]
                for read, name in names.items()
                if name in stored and len(stored[name]) == shard.size
            }
        missing = tuple(read for read in wanted if read not in known)
        if missing:
            yield from self._passed(shard, missing, known, place)
            return
        assert self.cache is not None
        size = len(known[LOGITS])
        step = self.cache.identity.get("batch_size", size)
        for start in range(0, size, step):
            rows = slice(start, min(start + step, size))
            evidence = self._evidence(shard, {}, known, rows, None)
            lost = torch.zeros(evidence.size, dtype=torch.bool, device="cpu")
            yield BatchReading(evidence, lost)

    def place(self, shard: Shard) -> Place | None:
        """Where what was read of a shard is kept; None if it is not."""
        return None if self.cache is None else self.cache.readings(shard)

    def bulky(self, reads: Iterable[Read]) -> bool:
        """Whether some of these readings are too large to keep."""
        return self.cache is not None and any(read not in self._names for read in reads)

    @cached_property
    def group_size(self) -> int:
        """Rows that detectors are given at once where batches are `regrouped`, about.

        The same whichever readings were kept before: a matrix product may round otherwise where
        rows lie otherwise, and what is resumed would end with other bytes.
        """
        size = sum(map(_row_bytes, self._example(self.binding.reads).values()))
        return max(1, min(_ROWS, -(-_GROUP_BYTES // max(size, 1))))

    def _passed(
        self,
        shard: Shard,
        missing: Sequence[Read],
        known: Mapping[Read, Tensor],
        place: Place | None,
    ) -> Iterator[BatchReading]:
        """A pass over the inputs for what is missing."""
        fresh: dict[Read, Tensor] = {}
        start = 0
        for batch in shard.batches():
            if row_count(batch.inputs) == 0:
                continue
            reading = self.read(Batch(batch.inputs), missing)
            if bool(reading.nonfinite.any()):
                place = None
            rows = slice(start, start + reading.evidence.size)
            new = {read: reading.evidence[read] for read in missing}
            if place is not None and shard.size is not None:
                for read in missing:
                    if read in self._names:
                        _put(fresh, read, new[read], rows, shard.size)
            yield replace(reading, evidence=self._evidence(shard, new, known, rows, batch.labels))
            start = rows.stop
        if place is not None:
            place.save({self._names[read]: tensor for read, tensor in fresh.items()})

    def _evidence(
        self,
        shard: Shard,
        new: Mapping[Read, Tensor],
        known: Mapping[Read, Tensor],
        rows: slice,
        labels: Tensor | None,
    ) -> Evidence:
        """Of some rows of a shard: what was just read, and what was kept."""
        network = self.binding.network
        readings = {read: kept[rows].to(network.device) for read, kept in known.items()}
        readings |= new
        if shard.labels is not None:
            labels = shard.labels[rows]
        size = rows.stop - rows.start
        labels = self._labels(labels, size)
        return Evidence(size, network.classes, self._head, labels, tuple(readings), readings)

    def _labels(self, labels: Tensor | None, size: int) -> Tensor | None:
        """Labels on the model's device; where its outputs are of no classes, of a single one."""
        network = self.binding.network
        if network.link == "none":
            return torch.zeros(size, dtype=torch.int64, device=network.device)
        return None if labels is None else labels.to(network.device)

    @property
    def _head(self) -> Linear | None:
        network = self.binding.network
        if not network.head_found:
            return None
        weight, bias = network.head.linear()
        return Linear(weight.to(network.device), None if bias is None else bias.to(network.device))

    @cached_property
    def _names(self) -> dict[Read, str]:
        """Readings that are kept, and their names in the cache."""
        names: dict[Read, str] = {}
        binding = self.binding
        for read, tensor in self._example([*binding.reads, *binding.fit_reads]).items():
            if tensor.ndim == 0 or _row_bytes(tensor) > BULKY:
                continue
            if made_of_own_parts(read):  # A name of another package's does not say all of it.
                names[read] = key_of(read=read_to_plain(read))
        return names

    def _example(self, reads: Iterable[Read]) -> dict[Read, Tensor]:
        """Readings, and the logits, of the network's example."""
        network = self.binding.network
        wanted = tuple(dict.fromkeys([*reads, LOGITS]))
        evidence = gather(network, network.example.to(network.device), wanted)
        return {read: evidence[read] for read in wanted}


def _why_not_run(network: Network, inputs: Inputs) -> str | None:
    """Why a model cannot run on inputs that it takes by their rank; None if that is not plain."""
    example = network.example
    if isinstance(inputs, Arguments) or isinstance(example, Arguments):
        return None
    kind = next((p.dtype for p in network.module.parameters()), inputs.dtype)
    if inputs.is_floating_point() and kind != inputs.dtype and not torch.is_autocast_enabled():
        return (
            f"the model is now {kind}, but was observed with inputs {described(inputs)}; its "
            "scores would be others. Make a new monitor and fit it."
        )
    if inputs.shape[1:] != example.shape[1:]:
        return (
            f"the model cannot run on {described(inputs)}; it was observed on "
            f"{described(example)}. Resize or crop the inputs alike."
        )
    return None


def _row_bytes(tensor: Tensor) -> int:
    """Bytes per row."""
    return tensor[0].numel() * tensor.element_size() if tensor.ndim else 0


def _put(fresh: dict[Read, Tensor], read: Read, part: Tensor, rows: slice, size: int) -> None:
    """A batch's part of a reading, at its place."""
    if read not in fresh:
        fresh[read] = torch.empty((size, *part.shape[1:]), dtype=part.dtype, device="cpu")
    fresh[read][rows] = part
