"""Image data sets in shards that batches never cross."""

from collections.abc import Callable, Iterator
from functools import cache, partial

from gradood.data import ImageDataset, loader
from gradood.engine.batches import Batch, Data, Shard, batches

__all__ = ["ROWS", "image_shards"]

ROWS = 2048
"""Of a shard, about: the next multiple of the batch size, so that no batch crosses its end."""


def image_shards(dataset: ImageDataset, *, batch_size: int, workers: int) -> list[Shard]:
    """The shards of a data set of images; batches lie the same in each, whatever is read of it.

    Args:
        dataset: at least one image.
        batch_size: images at once.
        workers: processes that decode.
    """
    rows = -(-ROWS // batch_size) * batch_size
    labels = dataset.labels
    shards: list[Shard] = []
    for start in range(0, len(dataset), rows):
        part = dataset[start : start + rows]
        classes = None if labels is None else labels[start : start + rows]
        load = partial(loader, part, batch_size=batch_size, workers=workers)
        shards.append(Shard(partial(_passed, load), len(part), classes, cache(part.content)))
    return shards


def _passed(load: Callable[[], Data]) -> Iterator[Batch]:
    return batches(load())
