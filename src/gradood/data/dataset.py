"""A data set of images in a fixed order, decoded when asked for."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

from torch import Tensor

from gradood.data._batches import image_batch
from gradood.data._decode import decode
from gradood.data.image_source import ImageSource
from gradood.data.preprocess import Preprocess
from gradood.data.row_dataset import RowDataset, joint_sample

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["ImageDataset", "joint_sample"]


class ImageDataset(RowDataset):
    """A map-style dataset: ``dataset[i]`` is an image, or a pair of image and label.

    An image is the float32 tensor that `preprocess` makes, a label an int; see `RowDataset`.

    Attributes:
        preprocess: from a Pillow image to a tensor.
    """

    preprocess: Callable[["Image"], Tensor]
    _source: ImageSource

    def __init__(self, source: ImageSource, preprocess: Callable[["Image"], Tensor] | None) -> None:
        super().__init__(source)
        self.preprocess = Preprocess() if preprocess is None else preprocess

    @final
    def collate(self, items: Sequence[Any]) -> Any:
        return image_batch(items)

    @final
    def _input(self, row: int) -> Tensor:
        return self.preprocess(decode(self._source.encoded(row)))

    @final
    def _encoded(self, row: int, fetch: bool) -> bytes | Path | None:
        source = self._source
        return source.encoded(row) if fetch or not source.remote(row) else None
