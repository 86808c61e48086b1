"""Progress bar on long work."""

import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from torch import Tensor
from tqdm import tqdm

from gradood._engine.batches import Batch, Data, Shard, batches
from gradood._engine.forms import InputForm

__all__ = ["on_terminal", "progress_bar", "shown_batches", "shown_shards"]


def on_terminal() -> bool:
    """Whether messages go to a terminal; a service may have no place for them at all."""
    stream = sys.stderr
    return stream is not None and not stream.closed and stream.isatty()


def progress_bar(
    total: int | None,
    what: str | None,
    unit: str,
    *,
    shown: bool | None = None,
    done: int = 0,
    leave: bool = True,
) -> "tqdm[Any]":
    """A progress bar, to be updated by the units done and closed at the end.

    Args:
        total: units of the whole work; None if nobody knows.
        what: the work, in a word; None for none.
        unit: in a word.
        shown: None for on a terminal only.
        done: units done before.
        leave: whether it stays when it is closed.
    """
    visible = on_terminal() if shown is None else shown and sys.stderr is not None
    return tqdm(total=total, initial=done, desc=what, unit=unit, leave=leave, disable=not visible)


def shown_batches(
    data: Data, what: str, *, bar: bool, labels: bool = False, form: InputForm | None = None
) -> Iterator[Batch]:
    """The batches of `data`, with a progress bar if there are several.

    Args:
        data: as `gradood._engine.batches.batches` takes it.
        what: the work, in a word.
        bar: whether to show one at all.
        labels: whether labels are wanted.
        form: as for `batches`.
    """
    stream = batches(data, labels=labels, form=form)
    if isinstance(data, Tensor | np.ndarray | Mapping) or not bar or sys.stderr is None:
        yield from stream
        return
    try:
        total = len(data)  # type: ignore[arg-type]
    except TypeError:  # A generator has none; a loader over a stream has one that raises.
        total = None
    with progress_bar(total, what, "batch", shown=True, leave=False) as progress:
        for batch in stream:
            yield batch
            progress.update()


def shown_shards(shards: Sequence[Shard], what: str) -> Iterator[Shard]:
    """Shards with a progress bar, on a terminal, if there are several.

    Args:
        shards: of one data set.
        what: that is, in a word.
    """
    several = None if len(shards) > 1 else False
    with progress_bar(len(shards), what, "shard", shown=several, leave=False) as progress:
        for shard in shards:
            yield shard
            progress.update()
