"""Batches of a data set, in its order."""

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from typing import Any, final

import torch
from torch.utils.data import DataLoader, Dataset

from gradood.data._batches import image_batch
from gradood.data._worker_pool import DECODE_TIMEOUT, run_chunks
from gradood.data._workers import RowTask
from gradood.data.row_dataset import RowDataset
from gradood.errors import ConfigError, DataError

__all__ = ["decoded_batches", "loader"]


def loader(
    dataset: Dataset[Any],
    *,
    batch_size: int = 128,
    workers: int = 0,
    decode_timeout: float | None = DECODE_TIMEOUT,
) -> DataLoader[Any]:
    """A `DataLoader` over all items in order; it leaves the global random state alone.

    Args:
        dataset: map-style.
        batch_size: items in a batch; the last may be smaller.
        workers: processes that decode; 0 decodes in this one.
        decode_timeout: seconds that one item may take, where processes decode; None for no limit.

    Raises:
        ConfigError: a number is out of range.
        DataError: while iterating: an image is broken, takes longer than the limit, or ends the
            process that decodes it several times; or images of one batch differ in size.
    """
    if batch_size < 1 or workers < 0:
        raise ConfigError(
            f"batch_size is {batch_size} and workers {workers}; expected at least 1 and 0."
        )
    # Without a generator of its own, every pass over a DataLoader draws from the global one.
    generator = torch.Generator()
    if workers == 0:
        return DataLoader(
            dataset, batch_size=batch_size, collate_fn=_collation(dataset), generator=generator
        )
    return _PooledLoader(
        dataset, batch_size=batch_size, workers=workers, decode_timeout=decode_timeout
    )


def decoded_batches(
    dataset: Dataset[Any],
    batches: Iterable[Sequence[int]],
    *,
    workers: int,
    collate: Callable[[list[Any]], Any],
    decode_timeout: float | None = DECODE_TIMEOUT,
) -> Generator[Any]:
    """Batches of a data set at given indices, decoded ahead by processes if there are any.

    Args:
        dataset: map-style; where it has ``where(index)``, that names an item in errors.
        batches: indices of each; read as they are needed.
        workers: processes that decode; 0 decodes in this one.
        collate: makes a batch of a list of items.
        decode_timeout: seconds that one item may take, where processes decode; None for no limit.

    Raises:
        DataError: an item takes longer than the limit, or ends the process that decodes it several
            times.
        Exception: what the data set raises for an item.
    """
    items = _Items(dataset, collate)
    return run_chunks(items, batches, workers=workers, timeout=decode_timeout)


@final
class _PooledLoader(DataLoader[Any]):
    """A `DataLoader` whose processes have a time limit per item, and may end."""

    def __init__(
        self,
        dataset: Dataset[Any],
        *,
        batch_size: int,
        workers: int,
        decode_timeout: float | None,
    ) -> None:
        super().__init__(
            dataset,
            batch_size=batch_size,
            num_workers=workers,
            collate_fn=_collation(dataset),
            generator=torch.Generator(),
        )
        self.decode_timeout = decode_timeout

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        return decoded_batches(
            self.dataset,
            iter(self.batch_sampler or ()),
            workers=self.num_workers,
            collate=_collation(self.dataset),
            decode_timeout=self.decode_timeout,
        )


@final
class _Items(RowTask[Any, Any]):
    """The items of a data set, by index."""

    def __init__(self, dataset: Dataset[Any], collate: Callable[[list[Any]], Any]) -> None:
        self.dataset = dataset
        self.collate_items = collate

    def decode(self, row: int) -> Any:
        return self.dataset[row]

    def stand_in(self, row: int, status: str, reason: str) -> Any:
        where = getattr(self.dataset, "where", "item {}".format)
        raise DataError(f"{where(row)} cannot be used: {reason}.")

    def collate(self, items: list[Any]) -> Any:
        return self.collate_items(items)


def _collation(dataset: Dataset[Any]) -> Callable[[list[Any]], Any]:
    """What makes a batch of items: a data set of this library's own knows how."""
    return dataset.collate if isinstance(dataset, RowDataset) else image_batch
