"""Inputs named by one URI: a folder, a list, a table, archives or one file, and a slice of it.

``fit``, `calibrate`, ``score``, ``bench`` and ``train`` all read their inputs through this module:
a URI names the same rows in the same order in each.
"""

import os
import re
from collections.abc import Callable, Hashable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from torch import Tensor

from gradood.data._column_source import ColumnRows, ColumnSource
from gradood.data._kinds import kind_of
from gradood.data._listing import (
    EXTENSIONS,
)
from gradood.data._parquet import ParquetSource
from gradood.data._parquet_columns import IMAGE, LABEL
from gradood.data._part import ColumnPart, ImagePart
from gradood.data._sampling import drawn_rows
from gradood.data._sound_folder import is_sound_folder
from gradood.data._storage import absolute_folder, local_path
from gradood.data._text_tables import TEXT_TABLES, is_text_table
from gradood.data.column_dataset import ColumnDataset
from gradood.data.column_input import ColumnInput
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
from gradood.data.preprocess import Preprocess
from gradood.data.row_dataset import RowDataset
from gradood.errors import DataError

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = [
    "list_columns",
    "list_images",
    "local_file",
    "open_columns",
    "open_images",
    "open_inputs",
    "split_slice",
    "split_source",
    "split_text",
]

_SLICED = re.compile(r"(?P<path>.+)\[(?P<start>-?\d+)?:(?P<stop>-?\d+)?\]", re.DOTALL)
_TABLES = (
    f"a .parquet file, a folder of such, a file ending in {', '.join(TEXT_TABLES)}, or a folder of "
    "sound files"
)


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
    bare, part = split_source(source)
    kind = kind_of(bare)
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
    rows = _selected(source, bare, dataset.groups, part, "image")
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
    bare, part = split_source(source)
    kind = kind_of(bare)
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
    rows = _selected(source, bare, whole.groups, part, "image")
    return whole if len(rows) == len(whole) else ImagePart(str(source), whole, rows)


def open_columns(
    source: str | Path,
    inputs: ColumnInput,
    *,
    labeled: bool | None = None,
    label_column: str = LABEL,
) -> ColumnDataset:
    """The rows of a table as a data set; the same rows and order as `list_columns`.

    Args:
        source: a path or URL of a ``.parquet`` file or a folder with some, or of a ``.csv``,
            ``.tsv``, ``.jsonl`` or ``.ndjson`` file; or a folder of sound files, whose column is
            ``audio``, and ``label`` where there is a folder for each class. A slice may follow,
            as for `open_images`.
        inputs: from the columns of a row to what the model takes; what it leaves open, such as
            which columns hold numbers, is taken from this table.
        labeled: True to insist on labels, False to leave them, None to use them if there are any.
        label_column: the default is any name in the table of docs/inputs.md.

    Raises:
        DataError: there is nothing there, nothing in the slice, or it cannot be read.
        ConfigError: a column named is not in the table.
        ImportError: the package that reads such files or URLs is not installed.

    Cost: reads a text file, or the footers of Parquet files.
    """
    bare, part = split_source(source)
    inputs = inputs.opened(_table(bare))
    rows = ColumnSource(
        bare, inputs.columns, files=inputs.files, label=label_column, labeled=labeled
    )
    dataset = ColumnDataset(rows, inputs)
    taken = _selected(source, bare, dataset.groups, part, "row")
    return dataset.subset(slice(taken.start, taken.stop) if isinstance(taken, range) else taken)


def list_columns(source: str, inputs: ColumnInput) -> ColumnRows:
    """The rows of a table by number; the same rows and order as `open_columns`.

    Args:
        source: as for `open_columns`.
        inputs: what the rows are read for.

    Raises:
        DataError: there is nothing, or something else.
        ConfigError: there is no such column.
        ImportError: the package that reads such files or URLs is not installed.
    """
    bare, part = split_source(source)
    whole = ColumnSource(_table(bare), inputs.columns, files=inputs.files, labeled=False)
    rows = _selected(source, bare, whole.groups, part, "row")
    return whole if len(rows) == len(whole) else ColumnPart(str(source), whole, rows)


def split_slice(source: str | Path) -> tuple[Path, slice]:
    """The path, and what is wanted of it; a path that exists as it is written is no slice."""
    bare, part = split_source(source)
    return local_path(bare) or Path(bare), part


def local_file(source: str | Path) -> Path | None:
    """The file of this machine that a URI names without its slice; None if it names none."""
    path = local_path(split_source(source)[0])
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


def split_source(source: str | Path) -> tuple[str, slice]:
    """A URI without its slice, and the slice; a file that is there as written has none."""
    text = str(source)
    path = local_path(text)
    exists = path is not None and os.path.lexists(path)
    return (text, slice(None)) if exists else split_text(text)


def _selected(
    source: str | Path,
    bare: str,
    groups: Callable[[], Sequence[Hashable]],
    part: slice,
    what: Literal["image", "row"],
) -> Sequence[int]:
    """The rows that a slice takes: the one place where it is decided which."""
    known = groups()
    count = len(known)
    if not count and what == "row":
        raise DataError(f"no row in {bare!r}; expected a table with some.")
    if not count:
        raise DataError(
            f"no image in {bare!r}: expected files ending in {', '.join(sorted(EXTENSIONS))}, a "
            "list of such, or Parquet with rows."
        )
    rows = drawn_rows(known, part)
    if not rows:
        raise DataError(f"{count} {what}s in {bare!r}, and none in {str(source)!r}; expected some.")
    return rows


def open_inputs(
    source: str | Path,
    preprocess: Preprocess | ColumnInput,
    *,
    labeled: bool | None = None,
    image_column: str = IMAGE,
    label_column: str = LABEL,
    root: str | Path | None = None,
) -> RowDataset:
    """Images or the rows of a table, as their preprocessing says; see `open_images`."""
    if isinstance(preprocess, ColumnInput):
        return open_columns(source, preprocess, labeled=labeled, label_column=label_column)
    return open_images(
        source,
        preprocess,
        labeled=labeled,
        image_column=image_column,
        label_column=label_column,
        root=root,
    )


def _table(uri: str) -> str:
    """A URI of a table.

    Raises:
        DataError: there is none.
    """
    path = local_path(uri)
    name = os.path.basename(uri.rstrip("/"))
    text = is_text_table(name)
    if path is not None and not os.path.lexists(path):
        raise DataError(f"{uri!r} does not exist; expected {_TABLES}.")
    if not text and kind_of(uri) != "parquet" and not is_sound_folder(uri):
        raise DataError(f"{uri!r} is no table; expected {_TABLES}.")
    return uri
