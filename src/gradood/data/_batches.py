"""Items of a data set as one batch."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor
from torch.utils.data import default_collate

from gradood.errors import DataError

__all__ = ["batch_part", "batch_size", "image_batch"]


def image_batch(items: Sequence[Any]) -> Any:
    """Images, or pairs of image and label, as one batch.

    Raises:
        DataError: images differ in size.
    """
    images = [item[0] if isinstance(item, tuple) else item for item in items]
    shapes = sorted({tuple(image.shape) for image in images if isinstance(image, Tensor)})
    if len(shapes) > 1:
        raise DataError(
            f"images of one batch differ in size: {', '.join(map(str, shapes[:3]))}; expected "
            "one. Set Preprocess(resize=…, crop=…), or batch_size=1."
        )
    return default_collate(list(items))


def batch_size(batch: Any) -> int:
    """Rows of a tensor (batch, …), or of a mapping of such."""
    return len(next(iter(batch.values()))) if isinstance(batch, Mapping) else len(batch)


def batch_part(batch: Any, start: int, stop: int | None = None) -> Any:
    """Some rows of a tensor (batch, …), or of a mapping of such."""
    if isinstance(batch, Mapping):
        return {name: leaf[start:stop] for name, leaf in batch.items()}
    return batch[start:stop]
