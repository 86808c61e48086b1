"""Batches of a data set, in its order."""

from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, default_collate

from gradood.errors import ConfigError, DataError

__all__ = ["loader"]


def loader(dataset: Dataset[Any], *, batch_size: int = 128, workers: int = 0) -> DataLoader[Any]:
    """A `DataLoader` over all items in order; it leaves the global random state alone.

    Args:
        dataset: map-style.
        batch_size: items in a batch; the last may be smaller.
        workers: processes that decode; 0 decodes in this one.

    Raises:
        ConfigError: a number is out of range.
        DataError: while iterating: an image is broken, or images of one batch differ in size.
    """
    if batch_size < 1 or workers < 0:
        raise ConfigError(
            f"batch_size is {batch_size} and workers {workers}; expected at least 1 and 0."
        )
    # Without a generator of its own, every pass over a DataLoader draws from the global one.
    return DataLoader(
        dataset,
        batch_size=batch_size,
        num_workers=workers,
        collate_fn=_collate,
        generator=torch.Generator(),
    )


def _collate(items: list[Any]) -> Any:
    images = [item[0] if isinstance(item, tuple) else item for item in items]
    shapes = sorted({tuple(image.shape) for image in images if isinstance(image, Tensor)})
    if len(shapes) > 1:
        raise DataError(
            f"images of one batch differ in size: {', '.join(map(str, shapes[:3]))}; expected "
            "one. Set Preprocess(resize=…, crop=…), or batch_size=1."
        )
    return default_collate(items)
