"""A data set in pieces, each told by its content."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, partial

from torch import Tensor

from gradood.data import ImageDataset, loader
from gradood.engine.batches import Batch, Data, batches

__all__ = ["ROWS", "Shard", "image_shards", "whole"]

ROWS = 2048
"""Of a shard, about: the next multiple of the batch size, so that no batch crosses its end."""


@dataclass(frozen=True, eq=False, slots=True)
class Shard:
    """Some samples of a data set, in its order.

    Attributes:
        batches: a new pass over them.
        size: how many there are, or None if only a pass tells.
        labels: (size,) true classes, or None; where `size` is None, the batches bring their own.
        content: SHA-256 of what the samples are before preprocessing, or None if nobody knows.
    """

    batches: Callable[[], Iterator[Batch]]
    size: int | None = None
    labels: Tensor | None = None
    content: Callable[[], str | None] = lambda: None


def image_shards(dataset: ImageDataset, *, batch_size: int, workers: int) -> list[Shard]:
    """The shards of a data set of images; batches lie the same in each, whatever is read of it.

    Args:
        dataset: at least one image.
        batch_size: images at once.
        workers: processes that decode.
    """
    rows = -(-ROWS // batch_size) * batch_size
    labels = dataset.labels
    found: list[Shard] = []
    for start in range(0, len(dataset), rows):
        part = dataset[start : start + rows]
        own = None if labels is None else labels[start : start + rows]
        load = partial(loader, part, batch_size=batch_size, workers=workers)
        found.append(Shard(partial(_passed, load), len(part), own, cache(part.content)))
    return found


def whole(data: Data, *, labels: bool = False) -> list[Shard]:
    """A user's own batches as one shard, of which nothing is kept.

    Args:
        data: as `gradood.engine.batches.batches` takes it.
        labels: whether the labels in the batches are wanted.
    """
    return [Shard(lambda: batches(data, labels=labels))]


def _passed(load: Callable[[], Data]) -> Iterator[Batch]:
    return batches(load())
