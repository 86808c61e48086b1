"""A data set of rows in a fixed order, read when asked for."""

import copy
from abc import ABC, abstractmethod
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self, final

import torch
from torch import Tensor
from torch.utils.data import Dataset

from gradood.data._sampling import SEED, even_sample
from gradood.data.row_source import RowSource
from gradood.errors import BadRowError, ConfigError, DataError

__all__ = ["RowDataset", "joint_sample", "stacked_labels"]


class RowDataset(Dataset[Any], ABC):
    """A map-style dataset: ``dataset[i]`` is an input, or a pair of input and label.

    ``dataset[:2000]`` is a dataset of the same kind, which shares what has been read. A dataset can
    be sent to the worker processes of a `DataLoader`.

    Attributes:
        preprocess: from what a row holds to the model's input.
        classes: their names in the order of the labels, if known.
        labeled: whether items are pairs.
        passed_over: how many files beside the inputs are none, by the end of their names.
        unusable: how many rows were left out by `usable_rows`, by status.
    """

    preprocess: Any
    passed_over: Mapping[str, int]
    classes: tuple[str, ...] | None
    labeled: bool
    unusable: Mapping[str, int]

    def __init__(self, source: RowSource) -> None:
        self.classes = source.classes
        self.labeled = source.labeled
        self.passed_over = source.passed_over
        self.unusable = {}
        self._source = source
        self._rows: Sequence[int] = range(len(source))

    @abstractmethod
    def _input(self, row: int) -> Any:
        """The input in a row of the source.

        Raises:
            DataError: it cannot be used; says why, but not which.
        """

    @abstractmethod
    def _encoded(self, row: int, fetch: bool) -> bytes | Path | None:
        """What a row of the source holds; see `encoded`."""

    @abstractmethod
    def collate(self, items: Sequence[Any]) -> Any:
        """Items as one batch.

        Raises:
            DataError: their inputs do not fit in one.
        """

    @final
    def __len__(self) -> int:
        return len(self._rows)

    @final
    def __getitem__(self, index: int | slice) -> Any:
        """One item, or the dataset of some.

        Raises:
            IndexError: there is no such item.
            DataError: the input or its label cannot be used; names it, and says why.
        """
        if isinstance(index, slice):
            return self.subset(index)
        row, source = self._rows[index], self._source
        try:
            found = self._input(row)
        except (MemoryError, ModuleNotFoundError):
            raise
        except DataError as error:
            raise DataError(
                f"{source.where(row)} cannot be used: {error}{source.hint(row)}"
            ) from error
        except Exception as error:
            raise DataError(
                f"{source.where(row)} cannot be preprocessed: {type(error).__name__}: {error}"
            ) from error
        return (found, source.label(row)) if self.labeled else found

    @final
    def encoded(self, index: int, *, fetch: bool = True) -> bytes | Path | None:
        """The content of an item's file, or where it is on this machine; or its values as bytes.

        Args:
            index: of the item.
            fetch: whether to fetch it where it is behind a URL; else that gives None.

        Raises:
            IndexError: there is no such item.
            BadRowError: it cannot be read.
        """
        return self._encoded(self._rows[index], fetch)

    @final
    def name(self, index: int) -> str:
        """What to call an item in a report; printable.

        Raises:
            IndexError: there is no such item.
        """
        return _printable(self._source.name(self._rows[index]))

    @final
    def id(self, index: int) -> str:
        """What tells an item from the others of its source, as in the results of a scoring job.

        Raises:
            IndexError: there is no such item.
        """
        return self._source.id(self._rows[index])

    @final
    def where(self, index: int) -> str:
        """An item as an error message names it.

        Raises:
            IndexError: there is no such item.
        """
        return self._source.where(self._rows[index])

    @final
    def subset(self, items: slice | Iterable[int]) -> Self:
        """The dataset of some items, in the order given.

        Args:
            items: a slice, or indices into this dataset.

        Raises:
            IndexError: there is no such item.
        """
        part = copy.copy(self)
        rows = self._rows
        part._rows = rows[items] if isinstance(items, slice) else [rows[int(i)] for i in items]
        return part

    @final
    def sample(self, count: int, *, seed: int = SEED) -> Self:
        """The dataset of an even sample of its items, in their order.

        Of each class its share, and at least one where there is room for all; within a class spread
        over all of its items. Classes are those of folders, lists, columns or archives, also where
        the dataset is without labels; where none are known, items are spread over the whole.
        ``open_images("photos[:2000]")`` is ``open_images("photos").sample(2000)``, where
        ``dataset[:2000]`` is the first 2,000 items, as for any sequence.

        Args:
            count: items wanted; all are taken where there are no more.
            seed: of the draw.

        Raises:
            ConfigError: `count` is negative.
        """
        if count < 0:
            raise ConfigError(f"count is {count}; expected a number of items, 0 or more.")
        return self.subset(even_sample(self.groups(), count, seed=seed))

    @final
    def groups(self) -> Sequence[Hashable]:
        """Of each item its class, whether the dataset has labels or not; None where none is known.

        Raises:
            DataError: a file cannot be read.
        """
        groups = self._source.groups()
        return [groups[row] for row in self._rows]

    @final
    def content(self) -> str:
        """SHA-256 that tells these inputs, in this order, from any others; names have no part.

        The preprocessing and the labels have none either.

        Raises:
            DataError: a file cannot be read.

        Cost: the files are read once, remote ones too; of a Parquet file the digest is kept.
        """
        return self._source.content(self._rows)

    @final
    def origins(self) -> Iterator[str]:
        """Of each item, what is the same for the same input, however its path was written.

        The resolved path or the URL of an image file; content and row of a Parquet file.

        Raises:
            DataError: a file cannot be read.

        Cost: as `content` for Parquet files; for others a look at each file.
        """
        return self._source.origins(self._rows)

    @property
    @final
    def labels(self) -> Tensor | None:
        """Labels (len(self),) int64, without decoding an input; None if there are none.

        Where several classes may hold, (len(self), classes) of 0 and 1.

        Raises:
            DataError: a label is missing.
        """
        if not self.labeled:
            return None
        try:
            every = self._source.labels()
        except DataError as of_all:
            try:  # It may be of a row that is none of these.
                return stacked_labels([self._source.label(row) for row in self._rows])
            except BadRowError as of_row:
                raise (of_all if len(self) == len(self._source) else of_row) from None
        return every[torch.tensor(list(self._rows), dtype=torch.int64)]

    @property
    @final
    def num_classes(self) -> int | None:
        """Classes of the whole source, also in a subset; None without labels.

        Where the classes have no names, one more than the largest label.
        """
        if self.classes is not None:
            return len(self.classes)
        if not self.labeled:
            return None
        try:
            labels = self._source.labels()
        except DataError:  # Of a row without one; the others are known.
            labels = torch.tensor(
                [int(one) for one in self._source.groups() if isinstance(one, int)]
            )
        if labels.ndim > 1:
            return labels.shape[1]
        return max(int(labels.max()) + 1, 0) if len(labels) else 0


def stacked_labels(labels: Sequence[int | Tensor]) -> Tensor:
    """Labels of rows as one tensor: (n,) int64, or (n, classes) where several may hold."""
    if labels and isinstance(labels[0], Tensor):
        return torch.stack([torch.as_tensor(label) for label in labels])
    return torch.tensor(labels, dtype=torch.int64)


def joint_sample(
    datasets: Sequence[RowDataset], count: int | None, *, first: bool = False
) -> list[RowDataset]:
    """An even sample of several data sets as if they were one; see `RowDataset.sample`.

    Args:
        datasets: of the same classes.
        count: items wanted of all together; None for all.
        first: take the first items instead.

    Returns:
        The part of each data set, which may be empty.
    """
    total = sum(map(len, datasets))
    if count is None or count >= total:
        return list(datasets)
    groups = [group for dataset in datasets for group in dataset.groups()]
    rows = range(count) if first else even_sample(groups, count)
    parts: list[RowDataset] = []
    start = 0
    for dataset in datasets:
        stop = start + len(dataset)
        parts.append(dataset.subset([row - start for row in rows if start <= row < stop]))
        start = stop
    return parts


def _printable(name: str) -> str:
    """The name, with bytes that are not UTF-8 written out as \\xNN."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
