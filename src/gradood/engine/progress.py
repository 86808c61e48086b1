"""Progress bars on long work."""

import sys
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from torch import Tensor
from tqdm import tqdm

from gradood.engine.batches import Batch, Data, Shard, batches

__all__ = ["on_terminal", "shown_batches", "shown_shards"]


def on_terminal() -> bool:
    """Whether messages go to a terminal; a service may have no place for them at all."""
    stream = sys.stderr
    return stream is not None and not stream.closed and stream.isatty()


def shown_batches(data: Data, what: str, *, bar: bool, labels: bool = False) -> Iterator[Batch]:
    """The batches of `data`, with a progress bar if there are several.

    Args:
        data: as `gradood.engine.batches.batches` takes it.
        what: the work, in a word.
        bar: whether to show one at all.
        labels: whether labels are wanted.
    """
    stream = batches(data, labels=labels)
    if isinstance(data, Tensor | np.ndarray) or not bar or sys.stderr is None:
        yield from stream
        return
    try:
        total = len(data)  # type: ignore[arg-type]
    except TypeError:  # A generator has none; a loader over a stream has one that raises.
        total = None
    with tqdm(total=total, desc=what, unit="batch", leave=False) as progress:
        for batch in stream:
            yield batch
            progress.update()


def shown_shards(shards: Sequence[Shard], what: str) -> Iterable[Shard]:
    """Shards with a progress bar, on a terminal, if there are several.

    Args:
        shards: of one data set.
        what: that is, in a word.
    """
    if len(shards) < 2 or not on_terminal():
        return shards
    return tqdm(shards, desc=what, unit="shard", leave=False)
