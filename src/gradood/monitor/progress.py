"""A progress bar on long work."""

from collections.abc import Iterator

from torch import Tensor
from tqdm import tqdm

from gradood.batches import Batch, Data, batches

__all__ = ["shown_batches"]


def shown_batches(data: Data, what: str, *, bar: bool, labels: bool = False) -> Iterator[Batch]:
    """The batches of `data`, with a progress bar if there are several.

    Args:
        data: as `gradood.batches.batches` takes it.
        what: the work, in a word.
        bar: whether to show one at all.
        labels: whether labels are wanted.
    """
    stream = batches(data, labels=labels)
    if isinstance(data, Tensor) or not bar:
        yield from stream
        return
    total = len(data) if hasattr(data, "__len__") else None  # type: ignore[arg-type]
    with tqdm(total=total, desc=what, unit="batch", leave=False) as progress:
        for batch in stream:
            yield batch
            progress.update()
