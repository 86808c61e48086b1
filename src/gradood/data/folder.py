"""Image files in a folder, or in one folder per class."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, final

from torch import Tensor

from gradood.data.files import ImageFiles
from gradood.errors import DataError

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["EXTENSIONS", "ImageFolder", "find_images", "is_image_name"]

EXTENSIONS = frozenset(
    {
        *(".avif", ".bmp", ".gif", ".j2k", ".jfif", ".jp2", ".jpe", ".jpeg", ".jpf", ".jpg"),
        *(".mpo", ".pbm", ".pgm", ".png", ".pnm", ".ppm", ".tif", ".tiff", ".webp"),
    }
)
"""Ends of the names of files that are taken for images, in lower case."""


def is_image_name(name: str) -> bool:
    """Whether a file is taken for an image, by the end of its name."""
    return os.path.splitext(name)[1].lower() in EXTENSIONS


def find_images(root: Path) -> list[str]:
    """Every entry below a folder that is named like an image, whatever it is, sorted.

    Other files, and names that begin with a dot, are passed over. Links are followed, except to a
    folder that encloses them: that one is an entry, if it is named like an image.

    Args:
        root: the folder.

    Returns:
        Paths relative to it, with ``/``. Bytes that are not UTF-8 are surrogates in them.

    Raises:
        DataError: the folder, or one in it, cannot be listed.
    """
    found: list[str] = []
    pending: list[tuple[str, tuple[tuple[int, int], ...]]] = [("", ())]
    while pending:
        path, above = pending.pop()
        folder = root / path
        try:
            here = _identity(folder)
        except OSError as error:
            raise _unlistable(folder, error) from error
        if here in above:
            found += [path] if is_image_name(path) else []
            continue
        files, folders = _listed(folder)
        prefix = f"{path}/" if path else ""
        found += [prefix + name for name in files]
        pending += [(prefix + name, (*above, here)) for name in folders]
    return sorted(found)


@final
class ImageFolder(ImageFiles):
    """Image files below a folder, in the order of their sorted paths.

    If images lie only in subfolders, each subfolder is a class, and its place among the sorted
    names the label; empty subfolders count, so that no label shifts. If images lie only in the
    folder itself, there are no labels. Other files, and names that begin with a dot, are passed
    over. Links are followed, except to a folder that encloses them.

    Args:
        root: the folder.
        preprocess: from a Pillow image to a tensor; None for ``Preprocess()``.
        labeled: True to insist on class folders, False to take all images below `root` without
            labels, None to see which it is.

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
        self.root = Path(root)
        top, folders = _listed(self.root)
        below = {name: _images(self.root / name, (_identity(self.root),)) for name in folders}
        labeled = _layout(self.root, top, below, labeled)
        self._labels = []
        if labeled:
            self._paths = [f"{name}/{path}" for name in folders for path in below[name]]
            for label, name in enumerate(folders):
                self._labels += [label] * len(below[name])
        else:
            nested = [f"{name}/{path}" for name in folders for path in below[name]]
            self._paths = sorted([*top, *nested])
        classes = tuple(folders) if labeled else None
        super().__init__(len(self._paths), preprocess=preprocess, classes=classes, labeled=labeled)


def _layout(root: Path, top: list[str], below: dict[str, list[str]], labeled: bool | None) -> bool:
    """Whether the folders are classes."""
    nested = any(below.values())
    if not top and not nested:
        raise DataError(
            f"no image in {str(root)!r}: expected files ending in {', '.join(sorted(EXTENSIONS))}, "
            "in it or in one folder per class."
        )
    if labeled and not nested:
        raise DataError(
            f"no class folders in {str(root)!r}, whose images lie side by side; expected one "
            "folder per class. Without labels, pass labeled=False."
        )
    if top and nested and labeled is None:
        raise DataError(
            f"{str(root)!r} holds both images, such as {top[0]!r}, and folders with images; "
            "expected one or the other. Pass labeled=False to take all without labels, "
            "labeled=True to take the folders as classes and leave the rest."
        )
    return nested if labeled is None else labeled


def _images(folder: Path, above: tuple[tuple[int, int], ...]) -> list[str]:
    """Paths of images below a folder, relative to it, sorted."""
    here = _identity(folder)
    if here in above:
        return []
    files, folders = _listed(folder)
    nested = [f"{name}/{p}" for name in folders for p in _images(folder / name, (*above, here))]
    return sorted([*files, *nested])


def _listed(folder: Path) -> tuple[list[str], list[str]]:
    """Image files and folders in a folder, each sorted."""
    files, folders = [], []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.name.startswith("."):
                    continue
                if _is_folder(entry):
                    folders.append(entry.name)
                elif is_image_name(entry.name):
                    files.append(entry.name)
    except OSError as error:
        raise _unlistable(folder, error) from error
    return sorted(files), sorted(folders)


def _unlistable(folder: Path, error: OSError) -> DataError:
    return DataError(
        f"the folder {str(folder)!r} cannot be listed: {error.strerror or error}; expected a "
        "readable folder of images."
    )


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # A link to itself. If it is called an image, reading it says what it is.
        return False


def _identity(folder: Path) -> tuple[int, int]:
    status = os.stat(folder)
    return status.st_dev, status.st_ino
