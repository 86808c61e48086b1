"""Evidence of a data set, shard by shard: what was kept is not read off the model again."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from gradood.bench.shards import Shard
from gradood.engine.binding import Binding
from gradood.engine.reader import Reader
from gradood.engine.rows import emptied, finite_rows
from gradood.errors import ArtifactError
from gradood.evidence import LOGITS, Evidence, Linear, Read, gather, read_to_plain
from gradood.io.cache import Cache, Place, key_of

__all__ = ["BULKY", "Gathering", "Seen", "in_larger_batches"]

BULKY = 16 * 1024
"""Bytes per sample beyond which a reading is not kept: a map of 4,096 float32, say. Of methods that
learn from such, what they learned is kept; of those that score by such, the scores."""
_ROWS = 1024
_HELD = 64 * 2**20
"""Rows, or bytes of readings, that detectors are given at once at most."""


@dataclass(frozen=True, eq=False, slots=True)
class Seen:
    """One batch.

    Attributes:
        evidence: all that was asked for.
        lost: (batch,) bool, samples that hold NaN or infinity, or of which the model made such.
    """

    evidence: Evidence
    lost: Tensor


class Gathering:
    """Reads data sets off one bound model.

    Args:
        reader: bound.
        cache: where readings are kept, or None.
        identity: what readings depend on besides the data, in plain values: the model's content,
            preprocessing, batch size, device and code.
    """

    def __init__(
        self, reader: Reader, cache: Cache | None = None, identity: Mapping[str, Any] | None = None
    ) -> None:
        assert reader.binding is not None
        self.reader = reader
        self.binding: Binding = reader.binding
        self.cache = cache
        self.identity = dict(identity or {})
        network = self.binding.network
        self._head: Linear | None = None
        if network.head_found:
            bias = network.head.bias
            self._head = Linear(
                network.head.weight.to(network.device),
                None if bias is None else bias.to(network.device),
            )
        self._names = {} if cache is None else self._small()

    @cached_property
    def rows_at_once(self) -> int:
        """Rows that detectors are given at once, about.

        The same whichever readings were kept before: a matrix product may round otherwise where
        rows lie otherwise, and what is resumed would end with other bytes.
        """
        size = sum(map(_row_size, self._example(self.binding.reads).values()))
        return max(1, min(_ROWS, -(-_HELD // max(size, 1))))

    def bulky(self, reads: Iterable[Read]) -> bool:
        """Whether some of these readings are not kept."""
        return self.cache is not None and any(read not in self._names for read in reads)

    def place(self, shard: Shard) -> Place | None:
        """Where what was read of a shard is kept."""
        if self.cache is None:
            return None
        content = shard.content()
        return None if content is None else self.cache.place(key_of(**self.identity, data=content))

    def evidence(self, shard: Shard, reads: Iterable[Read]) -> Iterator[Seen]:
        """What is read of each batch; what is new is kept once the last batch was taken.

        Args:
            shard: of the data set.
            reads: wanted; logits always come with them.
        """
        wanted = tuple(dict.fromkeys([*reads, LOGITS]))
        place = self.place(shard)
        kept: dict[Read, Tensor] = {}
        if place is not None:
            names = {read: self._names[read] for read in wanted if read in self._names}
            found = place.load(names.values())
            kept = {
                read: found[name]
                for read, name in names.items()
                if name in found and len(found[name]) == shard.size
            }
        missing = tuple(read for read in wanted if read not in kept)
        if missing:
            yield from self._passed(shard, wanted, missing, kept, place)
        else:
            size = len(kept[LOGITS])
            step = self.identity.get("batch_size", size)
            for start in range(0, size, step):
                yield self._seen(wanted, {}, kept, slice(start, min(start + step, size)), shard)

    def _passed(
        self,
        shard: Shard,
        wanted: tuple[Read, ...],
        missing: tuple[Read, ...],
        kept: Mapping[Read, Tensor],
        place: Place | None,
    ) -> Iterator[Seen]:
        """A pass over the images for what is missing."""
        fresh: dict[Read, Tensor] = {}
        start = 0
        for batch in shard.batches():
            if len(batch.x) == 0:
                continue
            x = self.reader.ready(batch.x)
            finite = finite_rows(x)
            if not bool(finite.all()):
                x = emptied(x, finite)
                place = None
            rows = slice(start, start + len(x))
            seen = self.reader.gather(x, missing, None)
            new = {read: seen[read] for read in missing}
            if place is not None and shard.size is not None:
                for read in missing:
                    if read in self._names:
                        _put(fresh, read, new[read], rows, shard.size)
            yield self._seen(wanted, new, kept, rows, shard, batch.labels, ~finite)
            start = rows.stop
        if place is not None:
            place.save({self._names[read]: tensor for read, tensor in fresh.items()})

    def _seen(
        self,
        wanted: tuple[Read, ...],
        new: Mapping[Read, Tensor],
        kept: Mapping[Read, Tensor],
        rows: slice,
        shard: Shard,
        labels: Tensor | None = None,
        broken: Tensor | None = None,
    ) -> Seen:
        device = self.binding.network.device
        found = {read: tensor[rows].to(device) for read, tensor in kept.items()} | dict(new)
        if shard.labels is not None:
            labels = shard.labels[rows]
        labels = None if labels is None else labels.to(device)
        size = rows.stop - rows.start
        classes = self.binding.network.classes
        evidence = Evidence(size, classes, self._head, labels, wanted, found)
        lost = ~evidence.sound
        return Seen(evidence, lost if broken is None else lost | broken)

    def _example(self, reads: Iterable[Read]) -> dict[Read, Tensor]:
        """Readings, and the logits, of the network's example."""
        network = self.binding.network
        wanted = tuple(dict.fromkeys([*reads, LOGITS]))
        found = gather(network, network.example.to(network.device), wanted)
        return {read: found[read] for read in wanted}

    def _small(self) -> dict[Read, str]:
        """Readings that are kept, and their names in the cache."""
        names: dict[Read, str] = {}
        for read, tensor in self._example([*self.binding.reads, *self.binding.fit_reads]).items():
            if tensor.ndim == 0 or _row_size(tensor) > BULKY:
                continue
            try:
                names[read] = key_of(read=read_to_plain(read))
            except ArtifactError:  # Of another package, and so without a name that says it all.
                continue
        return names


def _row_size(tensor: Tensor) -> int:
    """Bytes per sample."""
    return tensor[0].numel() * tensor.element_size() if tensor.ndim else 0


def _put(fresh: dict[Read, Tensor], read: Read, part: Tensor, rows: slice, size: int) -> None:
    """A batch's part of a reading, at its place."""
    if read not in fresh:
        fresh[read] = torch.empty((size, *part.shape[1:]), dtype=part.dtype)
    fresh[read][rows] = part


def in_larger_batches(batches: Iterable[Seen], at_once: int) -> Iterator[Seen]:
    """The same rows, about a thousand at a time: dozens of detectors do little on few rows.

    Args:
        batches: of a shard.
        at_once: rows that are waited for.
    """
    waiting: list[Seen] = []
    rows = 0
    for seen in batches:
        waiting.append(seen)
        rows += seen.evidence.size
        if rows >= at_once:
            yield _joined(waiting)
            waiting, rows = [], 0
    if waiting:
        yield _joined(waiting)


def _joined(parts: Sequence[Seen]) -> Seen:
    evidence = Evidence.joined([part.evidence for part in parts])
    return Seen(evidence, torch.cat([part.lost for part in parts]))
