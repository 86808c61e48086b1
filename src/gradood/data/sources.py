"""Images named by one URI: a folder, a list, Parquet, archives or one file, and a slice of it.

``fit``, `calibrate`, ``score``, ``bench`` and ``train`` all read their images through this module:
a URI names the same images in the same order in each.
"""

import os
import re
from collections.abc import Callable, Hashable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from torch import Tensor

from gradood.data._archives import ARCHIVE_EXTENSIONS, is_archive_name
from gradood.data._listing import (
    EXTENSIONS,
    HEIF_EXTENSIONS,
    LIST_EXTENSIONS,
    entries_of,
    is_image_name,
)
from gradood.data._parquet import ParquetSource
from gradood.data._parquet_columns import IMAGE, LABEL
from gradood.data._part import Part
from gradood.data._sampling import drawn_rows
from gradood.data._storage import absolute_folder, check_protocols, local_path, reaching
from gradood.data._tables import is_parquet_name, is_partitioned
from gradood.data.dataset import ImageDataset
from gradood.data.image_source import FileSource, ImageSource
from gradood.data.images import (
    ImageArchive,
    ImageFolder,
    ImageList,
    ParquetImages,
    SingleImage,
    archive_source,
    folder_source,
    list_source,
)
from gradood.errors import DataError

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["list_images", "local_file", "open_images", "split_slice", "split_text"]

_SLICED = re.compile(r"(?P<path>.+)\[(?P<start>-?\d+)?:(?P<stop>-?\d+)?\]", re.DOTALL)
_Kind = Literal["archive", "folder", "parquet", "list", "image"]


def open_images(
    source: str | Path,
    preprocess: Callable[["Image"], Tensor] | None = None,
    *,
    labeled: bool | None = None,
    image_column: str = IMAGE,
    label_column: str = LABEL,
    root: str | Path | None = None,
) -> ImageDataset:
    """The images that a URI names, as a data set; the same images and order as `list_images`.

    Args:
        source: a path, or a URL that fsspec reads such as ``s3://bucket/photos``, of one of

            - a folder: every entry below it that is named like an image, by sorted path; its own
              folders are classes if no image lies beside them (`ImageFolder`);
            - a ``.parquet`` file, or a folder with some: every row (`ParquetImages`);
            - a ``.txt``, ``.lst`` or ``.list`` file with ``path label`` on each line, or a path or
              URL on each line; paths are relative to the folder of the list (`ImageList`);
            - a ``.tar``, ``.tar.gz`` or ``.zip`` file, several of them with braces, as in
              ``train-{000..012}.tar``, or a folder of nothing else (`ImageArchive`);
            - an image file.

            A slice may follow: ``photos[:2000]`` draws so many images evenly over the classes,
            ``photos[2000:]`` are the rest, ``photos[0:2000]`` the first (docs/inputs.md).
        preprocess: from a Pillow image to a tensor; None for ``Preprocess()``.
        labeled: True to insist on labels, False to leave them, None to use them if there are any.
        image_column: of Parquet files; the default is any name in the table of docs/inputs.md.
        label_column: likewise.
        root: of image lists, the folder of the images; None for the list's own.

    Raises:
        DataError: there is nothing there, nothing in the slice, or it cannot be read.
        ConfigError: a column named is not in the file.
        ImportError: the package that reads such URLs is not installed.

    Cost: lists a folder once, reads a list or the footers of Parquet files.
    """
    bare, part = _split(source)
    kind = _kind_of(bare)
    if kind == "parquet":
        dataset: ImageDataset = ParquetImages(
            bare,
            preprocess,
            labeled=labeled,
            image_column=image_column,
            label_column=label_column,
        )
    elif kind == "archive":
        dataset = ImageArchive(bare, preprocess, labeled=labeled)
    elif kind == "list":
        dataset = ImageList(bare, preprocess, labeled=labeled, root=root)
    elif kind == "folder":
        dataset = ImageFolder(bare, preprocess, labeled=labeled)
    elif labeled:
        raise DataError(f"{bare!r} is one image, without a label; expected labels.")
    else:
        dataset = SingleImage(bare, preprocess)
    rows = _selected(source, bare, dataset.groups, part)
    return dataset.subset(slice(rows.start, rows.stop) if isinstance(rows, range) else rows)


def list_images(source: str, *, image_column: str = IMAGE) -> ImageSource:
    """The images that a URI names, by row; the same images and order as `open_images`.

    Args:
        source: as for `open_images`; folders may mix images and folders.
        image_column: of Parquet files, where the images are.

    Raises:
        DataError: there is nothing, or something else, or no image in it.
        ConfigError: there is no such column.
        ImportError: the package that reads such URLs is not installed.

    Cost:
        Lists a folder once, reads the footers and the column of names of Parquet files. Keeps the
        names in memory.
    """
    bare, part = _split(source)
    kind = _kind_of(bare)
    if kind == "parquet":
        whole: ImageSource = ParquetSource(bare, image=image_column, labeled=False)
    elif kind == "archive":
        whole = archive_source(bare, labeled=False)
    elif kind == "list":
        whole = list_source(bare, labeled=False, root=None)
    elif kind == "folder":
        whole = folder_source(bare, labeled=False)
    else:
        whole = FileSource(bare, [bare], absolute_folder(""))
    rows = _selected(source, bare, whole.groups, part)
    return whole if len(rows) == len(whole) else Part(str(source), whole, rows)


def split_slice(source: str | Path) -> tuple[Path, slice]:
    """The path, and what is wanted of it; a path that exists as it is written is no slice."""
    bare, part = _split(source)
    return local_path(bare) or Path(bare), part


def local_file(source: str | Path) -> Path | None:
    """The file of this machine that a URI names without its slice; None if it names none."""
    path = local_path(_split(source)[0])
    return path if path is not None and path.is_file() else None


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


def _split(source: str | Path) -> tuple[str, slice]:
    """A URI without its slice, and the slice; a file that is there as written has none."""
    text = str(source)
    path = local_path(text)
    exists = path is not None and os.path.lexists(path)
    return (text, slice(None)) if exists else split_text(text)


def _selected(
    source: str | Path, bare: str, groups: Callable[[], Sequence[Hashable]], part: slice
) -> Sequence[int]:
    """The rows that a slice takes: the one place where it is decided which."""
    known = groups()
    count = len(known)
    if not count:
        raise DataError(
            f"no image in {bare!r}: expected files ending in {', '.join(sorted(EXTENSIONS))}, a "
            "list of such, or Parquet with rows."
        )
    rows = drawn_rows(known, part)
    if not rows:
        raise DataError(f"{count} images in {bare!r}, and none in {str(source)!r}; expected some.")
    return rows


def _kind_of(uri: str) -> _Kind:
    """What lies at a URI."""
    path = local_path(uri)
    if is_archive_name(uri) and "{" in uri and not (path is not None and os.path.lexists(path)):
        return "archive"
    if path is None:
        folder, names = _remote_entries(uri)
    elif path.is_dir():
        folder, names = True, entries_of(uri)
    elif os.path.lexists(path):
        folder, names = False, []
    else:
        raise DataError(
            f"{uri!r} does not exist; expected a folder of images, a .parquet file, a folder of "
            f"them, a .tar or .zip file, a list ({', '.join(LIST_EXTENSIONS)}) of paths and URLs, "
            "or an image; a slice such as [:2000] may follow."
        )
    if folder:
        if any(map(is_parquet_name, names)) or _holds_partitions(uri, names):
            return "parquet"
        shown = [name for name in names if not name.startswith(".")]
        return "archive" if shown and all(map(is_archive_name, shown)) else "folder"
    name = os.path.basename(uri.rstrip("/")) if path is None else path.name
    if is_parquet_name(name):
        return "parquet"
    if is_archive_name(name):
        return "archive"
    if is_image_name(name):
        return "image"
    if name.lower().endswith(LIST_EXTENSIONS):
        return "list"
    raise DataError(
        f"{uri!r} is neither a folder, nor Parquet (.parquet), nor a list of paths or URLs "
        f"({', '.join(LIST_EXTENSIONS)}), nor an archive ({', '.join(ARCHIVE_EXTENSIONS)}), nor an "
        f"image; expected one of these.{_unreadable_kind(name)}"
    )


def _unreadable_kind(name: str) -> str:
    """What to do about a kind of image that is not read, as a sentence; else empty."""
    if os.path.splitext(name)[1].lower() in HEIF_EXTENSIONS:
        return " HEIC is read where pillow-heif is installed: pip install pillow-heif."
    return ""


def _holds_partitions(uri: str, names: Sequence[str]) -> bool:
    """Whether there is Parquet in folders such as ``label=cat``."""
    if not is_partitioned(names):
        return False
    if any(map(is_image_name, names)):
        return False
    path = local_path(uri)
    if path is not None:
        return any(True for found in path.rglob("*.parquet") if found.is_file())
    with reaching(uri) as (files, remote):
        return any(map(is_parquet_name, map(os.path.basename, files.find(remote))))


def _remote_entries(url: str) -> tuple[bool, list[str]]:
    """Whether it is a folder, and the names in it."""
    check_protocols([url])
    with reaching(url) as (files, path):
        if files.isdir(path):
            entries = files.ls(path, detail=False)
            return True, [str(entry).rstrip("/").rpartition("/")[2] for entry in entries]
        if files.exists(path):
            return False, []
    raise DataError(f"nothing at {url!r}; expected a folder, a list or a Parquet file.")
