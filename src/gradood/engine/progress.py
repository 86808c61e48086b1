"""A progress bar on long work."""

from collections.abc import Iterator

import numpy as np
from torch import Tensor
from tqdm import tqdm

from gradood.engine.batches import Batch, Data, batches

__all__ = ["shown_batches"]


def shown_batches(data: Data, what: str, *, bar: bool, labels: bool = False) -> Iterator[Batch]:
    """The batches of `data`, with a progress bar if there are several.

    Args:
        data: as `gradood.engine.batches.batches` takes it.
        what: the work, in a word.
        bar: whether to show one at all.
        labels: whether labels are wanted.
    """
    stream = batches(data, labels=labels)
    if isinstance(data, Tensor | np.ndarray) or not bar:
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
