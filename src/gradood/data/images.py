"""Data sets of images: a folder, a list, Parquet, archives, or one file."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, final

from torch import Tensor

from gradood.data._archive_source import ArchiveSource, expanded
from gradood.data._archives import ARCHIVE_EXTENSIONS, is_archive_name
from gradood.data._listing import (
    EXTENSIONS,
    class_folders,
    entries_of,
    find_images,
    read_list,
)
from gradood.data._parquet import CACHE_BYTES, ParquetSource
from gradood.data._parquet_columns import IMAGE, LABEL
from gradood.data._storage import (
    absolute_folder,
    check_protocols,
    joined,
    local_path,
    parent_folder,
)
from gradood.data.dataset import ImageDataset
from gradood.data.image_source import FileSource
from gradood.errors import DataError

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = [
    "ImageArchive",
    "ImageFolder",
    "ImageList",
    "ParquetImages",
    "SingleImage",
    "archive_source",
    "folder_source",
    "list_source",
]


@final
class ImageFolder(ImageDataset):
    """Image files below a folder, in the order of their sorted paths.

    If images lie only in subfolders, each subfolder is a class, and its place among the sorted
    names the label; empty subfolders count, so that no label shifts. If images lie only in the
    folder itself, there are no labels. Other files, and names that begin with a dot, are passed
    over. Links are followed, except to a folder that encloses them.

    Args:
        root: the folder, by path or URL.
        preprocess: from a Pillow image to a tensor; None for ``Preprocess()``.
        labeled: True to insist on class folders, False to take all images below `root` without
            labels, None to see which it is.

    Attributes:
        root: the folder; of a URL, that.

    Raises:
        DataError: there is no such folder, no image in it, or the layout leaves open whether there
            are labels.

    Cost: lists the files once; keeps their paths.
    """

    def __init__(
        self,
        root: str | Path,
        preprocess: Callable[["Image"], Tensor] | None = None,
        *,
        labeled: bool | None = None,
    ) -> None:
        self.root = local_path(root) or root if isinstance(root, str) else root
        super().__init__(folder_source(str(root), labeled=labeled), preprocess)


@final
class ImageList(ImageDataset):
    """Image files named in a list, in its order; see `gradood.data._listing.read_list`.

    Args:
        path: the list, by path or URL.
        preprocess: from a Pillow image to a tensor; None for ``Preprocess()``.
        labeled: True to insist on labels ≥ 0, False to leave them, None to use them if all are.
        root: the folder that the paths are relative to, and lie in; None for the list's own, and
            paths that may lead anywhere.

    Attributes:
        root: the folder that the paths are relative to.

    Raises:
        DataError: the list cannot be read, or has no labels where they are needed.

    Cost: reads the list; whether the images are there is seen when they are read.
    """

    def __init__(
        self,
        path: str | Path,
        preprocess: Callable[["Image"], Tensor] | None = None,
        *,
        labeled: bool | None = None,
        root: str | Path | None = None,
    ) -> None:
        folder = parent_folder(str(path)) if root is None else str(root)
        self.root = local_path(folder) or folder
        super().__init__(list_source(str(path), labeled=labeled, root=root), preprocess)


@final
class ParquetImages(ImageDataset):
    """Rows of a Parquet file, or of all the files of a folder in the order of their names.

    The image column is a struct of ``bytes`` and ``path`` (Hugging Face), or binary, or a list of
    one of these, or paths relative to the file's folder. The label column holds integers or names
    of classes; partitions, such as folders ``label=cat``, do as well. The name column, if there is
    one, gives what `name` says; else the ``path`` does, else file and row.

    Args:
        source: a Parquet file, or a folder of them, by path or URL; of its own subfolders, those of
            partitions are searched where it holds none itself.
        preprocess: from a Pillow image to a tensor; None for ``Preprocess()``.
        labeled: True to insist on labels, False to leave them, None to use them if there are any.
        image_column: where the images are; the default stands for any name in the table of
            docs/inputs.md.
        label_column: where the labels are, likewise; a name other than the default must exist.
        name_column: where the names are; a name other than the default must exist.
        cache_bytes: row groups kept in memory, per process; at least one is.

    Raises:
        DataError: a file is absent or damaged, or a column is not of the expected type.
        ConfigError: a column named is not in the file.

    Cost: opening reads the footers. An image costs the read of its row group, unless that is
    cached: in order, each is read once; in random order, mind `cache_bytes`.
    """

    def __init__(
        self,
        source: str | Path,
        preprocess: Callable[["Image"], Tensor] | None = None,
        *,
        labeled: bool | None = None,
        image_column: str = IMAGE,
        label_column: str = LABEL,
        name_column: str = "name",
        cache_bytes: int = CACHE_BYTES,
    ) -> None:
        rows = ParquetSource(
            str(source),
            image=image_column,
            label=label_column,
            name=name_column,
            labeled=labeled,
            cache_bytes=cache_bytes,
        )
        super().__init__(rows, preprocess)


@final
class ImageArchive(ImageDataset):
    """Images in a tar or zip file, or in several; nothing is unpacked to disk.

    Labels are WebDataset's (``0001.cls`` or ``0001.json`` beside ``0001.jpg``) where there are
    such; else folders in the archive are classes, as for `ImageFolder`, and folders that enclose
    everything are looked through. Links, names with ``..``, hidden and encrypted members are passed
    over.

    Args:
        source: path or URL; braces name several, as in ``train-{000..012}.tar``. Or a folder of
            archives, which are read in the order of their names.
        preprocess: from a Pillow image to a tensor; None for ``Preprocess()``.
        labeled: True to insist on labels, False to leave them, None to use them if there are any.

    Raises:
        DataError: an archive cannot be read, holds no image, or no labels where they are needed.

    Cost: reads a zip file's table of contents, or passes over a tar file once. An image costs the
    read of its bytes; in a compressed tar file, unpacking from the image read before.
    """

    def __init__(
        self,
        source: str | Path,
        preprocess: Callable[["Image"], Tensor] | None = None,
        *,
        labeled: bool | None = None,
    ) -> None:
        super().__init__(archive_source(str(source), labeled=labeled), preprocess)


@final
class SingleImage(ImageDataset):
    """One image file.

    Args:
        path: path or URL.
        preprocess: from a Pillow image to a tensor; None for ``Preprocess()``.
    """

    def __init__(
        self, path: str | Path, preprocess: Callable[["Image"], Tensor] | None = None
    ) -> None:
        super().__init__(FileSource(str(path), [str(path)], absolute_folder("")), preprocess)


def folder_source(root: str, *, labeled: bool | None) -> FileSource:
    """Image files below a folder; arguments and errors are those of `ImageFolder`."""
    listing, classes = find_images(root), class_folders(root)
    names = list(listing.images)
    top = [name for name in names if "/" not in name]
    labels: list[int] | None = None
    if _has_class_folders(root, top, len(names), labeled):
        numbers = {name: label for label, name in enumerate(classes)}
        names = [name for name in names if "/" in name]
        labels = [numbers[name.partition("/")[0]] for name in names]
    return FileSource(
        root,
        names,
        absolute_folder(root),
        labels=labels,
        classes=None if labels is None else classes,
        passed_over=listing.passed_over,
    )


def archive_source(source: str, *, labeled: bool | None) -> ArchiveSource:
    """Images in archives; arguments and errors are those of `ImageArchive`."""
    if is_archive_name(source):
        path = local_path(source)
        whole = path is not None and path.exists()
        return ArchiveSource(source, [source] if whole else expanded(source), labeled=labeled)
    names = sorted(name for name in entries_of(source) if is_archive_name(name))
    uris = [joined(source, name) for name in names if not name.startswith(".")]
    if not uris:
        raise DataError(
            f"no archive in {source!r}; expected {', '.join(ARCHIVE_EXTENSIONS)} files."
        )
    return ArchiveSource(source, uris, labeled=labeled)


def list_source(path: str, *, labeled: bool | None, root: str | Path | None) -> FileSource:
    """Image files named in a list; arguments and errors are those of `ImageList`."""
    lines = read_list(path, inside=root is not None)
    check_protocols(lines.paths)
    known = lines.labels is not None and bool(lines.labels) and min(lines.labels) >= 0
    if labeled and not known:
        raise DataError(
            f"the image list {path!r} has no label, or negative ones; expected classes "
            "from 0. Without labels, pass labeled=False."
        )
    labels = lines.labels if known and labeled is not False else None
    base = parent_folder(path) if root is None else absolute_folder(str(root))
    return FileSource(path, lines.paths, base, labels=labels, lines=lines)


def _has_class_folders(root: str, top: list[str], count: int, labeled: bool | None) -> bool:
    """Whether the folders below a folder are classes."""
    nested = count > len(top)
    if not count:
        raise DataError(
            f"no image in {root!r}: expected files ending in {', '.join(sorted(EXTENSIONS))}, "
            "in it or in one folder per class."
        )
    if labeled and not nested:
        raise DataError(
            f"no class folders in {root!r}, whose images lie side by side; expected one "
            "folder per class. Without labels, pass labeled=False."
        )
    if top and nested and labeled is None:
        raise DataError(
            f"{root!r} holds both images, such as {top[0]!r}, and folders with images; "
            "expected one or the other. Pass labeled=False to take all without labels, "
            "labeled=True to take the folders as classes and leave the rest."
        )
    return nested if labeled is None else labeled
