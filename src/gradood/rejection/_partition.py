"""Held-out data in a part to fit on and a part to calibrate on, told apart by content."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeGuard

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

from gradood._engine.batches import Batch, Data, batches
from gradood._engine.forms import InputForm
from gradood._engine.mistakes import used_up
from gradood._engine.rows import Inputs, finite_rows, moved, refuse_nonfinite, selected
from gradood.errors import DataError
from gradood.evidence import content_keys

__all__ = ["Known", "repeatable"]

_SEED = 0
"""Of the permutation of contents."""
_BATCH = 256
_EXAMPLE = 64


def repeatable(data: Data, form: InputForm | None = None) -> Data:
    """The data as batches of which several passes can be made.

    What gives one pass only is kept in memory; a whole data set in one batch is taken in parts.

    Args:
        data: as for `gradood.Monitor.fit`.
        form: how batches become the inputs of the model.

    Raises:
        DataError: it is an iterator with nothing left.
    """
    if isinstance(data, Mapping):
        (whole,) = batches(data, labels=True, form=form)
        return list(_parts(whole))
    if isinstance(data, Tensor | np.ndarray):
        whole = data.ndim > 1 and getattr(data, "layout", torch.strided) == torch.strided
        starts = range(0, len(data), _BATCH) if whole else ()
        return [data[start : start + _BATCH] for start in starts] if whole else data
    if not _gives_one_pass(data):
        return data
    kept = list(data)
    if not kept:
        raise DataError(f"data gave no batch.{used_up(data)}")
    return kept


@dataclass(frozen=True, eq=False, slots=True)
class Known:
    """Data held out from the training of a network, and which contents are to be fitted on.

    Attributes:
        data: batches, of which several passes can be made.
        first: inputs (at most 64, …) of the first batch.
        rows: number of samples.
        contents: (m,) int64, ascending, the content keys that occur.
        counts: (m,) int64, how often each does.
        labeled: whether every batch has labels.
        labels: the smallest and the largest of them, or none.
        fit: (m,) bool, the contents to fit on.
        form: how the batches become the inputs of a model; None if they are these.
    """

    data: Data
    first: Inputs
    rows: int
    contents: Tensor
    counts: Tensor
    labeled: bool
    labels: tuple[int, ...]
    fit: Tensor
    form: InputForm | None = None

    @staticmethod
    def of(data: Data, form: InputForm | None = None) -> "Known":
        """The data, none of it to be fitted on. Cost: a pass over it, without the model.

        Raises:
            DataError: there is no sample, or one is not finite.
        """
        data = repeatable(data, form)
        first: Inputs | None = None
        keys: list[Tensor] = []
        labels: list[int] = []
        labeled = True
        for batch in batches(data, labels=True, form=form):
            if not len(batch.inputs):
                continue
            inputs = moved(batch.inputs, batch.inputs.device)
            refuse_nonfinite(finite_rows(inputs), "known")
            first = inputs[:_EXAMPLE].clone() if first is None else first
            keys.append(content_keys(inputs).cpu())
            labeled = labeled and batch.labels is not None
            if batch.labels is not None:
                labels = [*labels, *map(int, batch.labels.aminmax())]
        if first is None:
            raise DataError(
                "known holds no sample; give in-distribution data that the network was not "
                "trained on."
            )
        rows = torch.cat(keys)
        contents, counts = rows.unique(return_counts=True)
        none = torch.zeros(len(contents), dtype=torch.bool, device="cpu")
        span = (min(labels), max(labels)) if labels else ()
        return Known(data, first, len(rows), contents, counts, labeled, span, none, form)

    def split(self, share: float, reserved: int) -> "Known":
        """A part of the contents to fit on; the same one whatever the order of the samples.

        Contents are dealt by a seeded permutation of their hashes, without a look at labels: the
        calibration part is a uniform draw, so that the promise is exact. Copies stay together. A
        content of which there are more than are to be fitted on calibrates.

        Args:
            share: of the samples, to fit on.
            reserved: distinct contents to leave for the calibration at least.
        """
        wanted = max(0, min(int(share * self.rows), self.rows - reserved))
        order = torch.from_numpy(np.random.default_rng(_SEED).permutation(self.distinct))
        order = order[self.counts[order] <= wanted]
        dealt = self.counts[order].cumsum(0) <= wanted
        dealt[max(0, self.distinct - reserved) :] = False
        fit = torch.zeros_like(self.fit)
        fit[order[dealt]] = True
        return replace(self, fit=fit)

    @property
    def distinct(self) -> int:
        """Number of samples, copies counted once."""
        return len(self.contents)

    @property
    def fitted(self) -> int:
        """Number of samples to fit on."""
        return int(self.counts[self.fit].sum())

    def part(self, *, fit: bool) -> Iterable[Any]:
        """Inputs and labels, or inputs alone, of the samples to fit on, or of the others.

        Args:
            fit: which of the two.

        Raises:
            DataError: while iterating: the data differs from what it was.
        """
        for batch in batches(self.data, labels=self.labeled, form=self.form):
            yield from self._rows(batch, fit)

    def _rows(self, batch: Batch, fit: bool) -> Iterator[Any]:
        if not len(batch.inputs):
            return
        keys = content_keys(batch.inputs).cpu()
        place = torch.searchsorted(self.contents, keys).clamp(max=len(self.contents) - 1)
        if not bool((self.contents[place] == keys).all()):
            raise DataError(
                "known gives other inputs each time it is gone through, as random augmentation "
                "does, and so do a sampler and shuffle=True with drop_last=True; give the images "
                "as the network will see them in use, and the same ones each time."
            )
        mine = self.fit[place] == fit
        if not bool(mine.any()):
            return
        inputs = selected(batch.inputs, mine.to(batch.inputs.device))
        labels = None if batch.labels is None else batch.labels[mine.to(batch.labels.device)]
        yield inputs if labels is None else (inputs, labels)


def _gives_one_pass(data: Data) -> TypeGuard[Iterable[Any]]:
    """Whether a pass goes on where the one before it ended, as over a generator that is kept."""
    if isinstance(data, DataLoader):
        if data.num_workers or not isinstance(data.dataset, IterableDataset):
            return False  # A worker process begins each pass with a copy of the data set.
        data = data.dataset
    return isinstance(data, Iterable) and iter(data) is iter(data)


def _parts(batch: Batch) -> Iterator[Batch]:
    """A batch in parts that a model can be run on."""
    for start in range(0, len(batch.inputs), _BATCH):
        rows = slice(start, start + _BATCH)
        yield Batch(batch.inputs[rows], None if batch.labels is None else batch.labels[rows])
