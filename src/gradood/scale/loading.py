"""Rows of a data set as batches, in ranges that depend on nothing else."""

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from gradood._io.arguments import instance, whole
from gradood.data import RowDataset, loader
from gradood.scale._tasks import Task

__all__ = ["Loading", "loading_of"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Loading:
    """How each worker reads its rows.

    Attributes:
        batch_size: rows at once. What is computed depends on it in its last bits.
        workers: processes of each worker that decode; 0 decodes in the worker, where no time limit
            holds.

    Raises:
        ConfigError: a number is out of range.
    """

    batch_size: int = 128
    workers: int = 0

    def __post_init__(self) -> None:
        whole(self.batch_size, "batch_size", least=1)
        whole(self.workers, "workers")

    def ranges(self, count: int, most: int) -> list[range]:
        """Rows in ranges of whole batches; those of a batch are the same as in one pass.

        Args:
            count: rows.
            most: ranges at most.

        >>> Loading(batch_size=4).ranges(10, 64)
        [range(0, 4), range(4, 8), range(8, 10)]
        """
        batched = -(-count // self.batch_size)
        ranges = min(most, batched)
        edges = [*(self.batch_size * (n * batched // ranges) for n in range(ranges)), count]
        return [range(start, stop) for start, stop in pairwise(edges)]

    def loaded(self, data: RowDataset, task: Task) -> Any:
        """The batches of a task's rows.

        Args:
            data: all rows.
            task: which of them.
        """
        workers = max(1, self.workers) if task.careful else self.workers
        rows = data[task.rows.start : task.rows.stop]
        return loader(rows, batch_size=self.batch_size, workers=workers)


def loading_of(given: Loading | None) -> Loading:
    """What was given, or the defaults.

    Raises:
        ConfigError: it is another object.
    """
    return Loading() if given is None else instance(given, Loading, "loading", "Loading(…)")
