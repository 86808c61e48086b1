"""Images named by one string, as on a command line: a folder, a list or Parquet, and a slice."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from torch import Tensor

from gradood.data.dataset import ImageDataset
from gradood.data.folder import ImageFolder
from gradood.data.image_list import ImageList
from gradood.data.parquet import ParquetImages
from gradood.data.shards import is_parquet_name
from gradood.errors import DataError

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["open_images", "split_slice", "split_text"]

_SLICED = re.compile(r"(?P<path>.+)\[(?P<start>-?\d+)?:(?P<stop>-?\d+)?\]", re.DOTALL)


def open_images(
    source: str | Path,
    preprocess: Callable[["Image"], Tensor] | None = None,
    *,
    labeled: bool | None = None,
    image_column: str = "image",
    label_column: str = "label",
    root: str | Path | None = None,
) -> ImageDataset:
    """The images of a folder, a list, a Parquet file, or a folder of Parquet files.

    A slice may follow the path, as in ``cifar10_test.parquet[:2000]`` or ``photos[2000:4000]``; it
    counts as Python's slices do, and must leave something.

    Args:
        source: the path, with or without a slice.
        preprocess: from a Pillow image to a tensor; None for ``Preprocess()``.
        labeled: True to insist on labels, False to leave them, None to use them if there are any.
        image_column: of Parquet files, where the images are.
        label_column: of Parquet files, where the labels are.
        root: of image lists (``.txt``), the folder of the images; None for the list's own.

    Raises:
        DataError: there is nothing at that path, nothing in the slice, or it cannot be read.
        ConfigError: a column named is not in the file.
    """
    path, part = split_slice(source)
    if _is_parquet(path):
        dataset: ImageDataset = ParquetImages(
            path,
            preprocess,
            labeled=labeled,
            image_column=image_column,
            label_column=label_column,
        )
    elif path.suffix.lower() == ".txt" and path.is_file():
        dataset = ImageList(path, preprocess, labeled=labeled, root=root)
    elif path.is_dir():
        dataset = ImageFolder(path, preprocess, labeled=labeled)
    else:
        what = "is neither" if path.exists() else "does not exist"
        raise DataError(
            f"{str(path)!r} {what}; expected a folder of images, a .parquet file, a folder of "
            "them, or a .txt list of images; a slice such as [:2000] may follow."
        )
    if not len(dataset):
        raise DataError(f"no image in {str(path)!r}; expected some.")
    if not len(dataset[part]):
        raise DataError(
            f"{len(dataset)} images in {str(path)!r}, and none in {str(source)!r}; expected some."
        )
    return dataset[part]


def split_slice(source: str | Path) -> tuple[Path, slice]:
    """The path, and what is wanted of it; a path that exists as it is written is no slice."""
    text, part = split_text(str(source))
    return (Path(source), slice(None)) if Path(source).exists() else (Path(text), part)


def split_text(source: str) -> tuple[str, slice]:
    """A path or URL, and what is wanted of it; whether there is such a file is not asked.

    >>> split_text("s3://bucket/a.parquet[:20]"), split_text("a[1]")
    (('s3://bucket/a.parquet', slice(None, 20, None)), ('a[1]', slice(None, None, None)))
    """
    match = _SLICED.fullmatch(source)
    if match is None:
        return source, slice(None)
    start, stop = (None if match[end] is None else int(match[end]) for end in ("start", "stop"))
    return match["path"], slice(start, stop)


def _is_parquet(path: Path) -> bool:
    if path.is_dir():
        return any(is_parquet_name(entry.name) for entry in path.iterdir())
    return path.is_file() and path.suffix.lower() == ".parquet"
