"""Names of the images in a folder, and the lines of an image list."""

import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from gradood.data._extras import heif
from gradood.data._storage import is_absolute, local_path, reaching, read_file
from gradood.errors import DataError

__all__ = [
    "EXTENSIONS",
    "FolderListing",
    "HEIF_EXTENSIONS",
    "ImageLines",
    "LIST_EXTENSIONS",
    "class_folders",
    "entries_of",
    "find_images",
    "is_image_name",
    "name_end",
    "read_list",
]

EXTENSIONS = frozenset(
    {
        *(".avif", ".bmp", ".gif", ".j2k", ".jfif", ".jp2", ".jpe", ".jpeg", ".jpf", ".jpg"),
        *(".mpo", ".pbm", ".pgm", ".png", ".pnm", ".ppm", ".tif", ".tiff", ".webp"),
    }
)
"""Ends of the names of files that are taken for images, in lower case."""

LIST_EXTENSIONS = (".list", ".lst", ".txt")
"""Ends of the names of files that are taken for image lists, in lower case."""

_BLANK = " \t\r"
_LABELED = re.compile(r"(?P<path>.*[^ \t])[ \t]+(?P<label>[+-]?[0-9]{1,9})", re.DOTALL)


HEIF_EXTENSIONS = frozenset({".heic", ".heif", ".hif"})
"""Likewise where a decoder of HEIF, pillow-heif, is installed."""


def is_image_name(name: str) -> bool:
    """Whether a file is taken for an image, by the end of its name."""
    end = os.path.splitext(name)[1].lower()
    return end in EXTENSIONS or (end in HEIF_EXTENSIONS and heif() is not None)


def name_end(name: str) -> str:
    """The end of a file's name as files that are passed over are counted by, such as ``.dcm``."""
    return os.path.splitext(name)[1].lower() or "without an ending"


# ---------------------------------------------------------------- folders


@dataclass(frozen=True, slots=True)
class FolderListing:
    """Files below a folder.

    Attributes:
        images: paths of the entries named like images, relative to the folder, sorted.
        passed_over: how many other files there are, by the end of their names.
    """

    images: Sequence[str]
    passed_over: Mapping[str, int]

    @staticmethod
    def of(names: Iterable[str]) -> "FolderListing":
        """Images and others among the paths of files."""
        images, others = [], Counter[str]()
        for name in names:
            if is_image_name(name):
                images.append(name)
            else:
                others[name_end(name)] += 1
        return FolderListing(sorted(images), dict(sorted(others.items())))


def find_images(folder: str) -> FolderListing:
    """Every entry below a folder that is named like an image, whatever it is, sorted.

    Other files are passed over and counted, names that begin with a dot not even that. On this
    machine links are followed, except to a folder that encloses them: that one is an entry, if it
    is named like an image.

    Args:
        folder: path or URL.

    Returns:
        Paths relative to it, with ``/``; bytes that are not UTF-8 are surrogates in them. And what
        was passed over.

    Raises:
        DataError: the folder, or one in it, cannot be listed.
    """
    path = local_path(folder)
    return FolderListing.of(_remote_files(folder) if path is None else _local_files(path))


def class_folders(folder: str) -> tuple[str, ...]:
    """Names of the folders right below a folder, sorted; empty ones are among them.

    Args:
        folder: path or URL.

    Raises:
        DataError: it cannot be listed.
    """
    path = local_path(folder)
    if path is not None:
        return tuple(_entries(path)[1])
    with reaching(folder) as (files, remote):
        entries = files.ls(remote, detail=True)
    names = [str(e["name"]).rstrip("/") for e in entries if e["type"] == "directory"]
    names = [name.rpartition("/")[2] for name in names]
    return tuple(sorted(name for name in names if not name.startswith(".")))


def entries_of(folder: str) -> list[str]:
    """Names of everything right in a folder.

    Args:
        folder: path or URL.

    Raises:
        DataError: it cannot be listed.
    """
    path = local_path(folder)
    if path is None:
        with reaching(folder) as (files, remote):
            entries = files.ls(remote, detail=False)
        return [str(entry).rstrip("/").rpartition("/")[2] for entry in entries]
    try:
        return os.listdir(path)
    except OSError as error:
        raise _unlistable(path, error) from error


def _remote_files(url: str) -> list[str]:
    with reaching(url) as (files, path):
        root = path.rstrip("/")
        below = [str(path).removeprefix(root).lstrip("/") for path in files.find(root or "/")]
    return [path for path in below if not any(part.startswith(".") for part in path.split("/"))]


def _local_files(root: Path) -> list[str]:
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
        files, folders = _entries(folder)
        prefix = f"{path}/" if path else ""
        found += [prefix + name for name in files]
        pending += [(prefix + name, (*above, here)) for name in folders]
    return found


def _entries(folder: Path) -> tuple[list[str], list[str]]:
    """Files and folders in a folder, each sorted."""
    files, folders = [], []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.name.startswith("."):
                    continue
                if _is_folder(entry):
                    folders.append(entry.name)
                else:
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


# ---------------------------------------------------------------- lists


@dataclass(frozen=True, slots=True)
class ImageLines:
    """What an image list says.

    Attributes:
        paths: one of each line, as it is written.
        labels: one of each line; None if the list has none.
    """

    paths: tuple[str, ...]
    labels: tuple[int, ...] | None


def read_list(source: str | Path, *, inside: bool = False) -> ImageLines:
    """The lines of an image list: ``path label`` on each line, or a path or URL on each line.

    Which of the two it is, the whole file decides: it is a list of labels if every line ends in
    blanks and a whole number, as OpenOOD's ``cifar10/test/cat/0001.png 3`` (−1 for outliers). Else
    each line is a path, spaces and numbers included. A file in which some lines are the name of an
    image followed by a number and others have none is refused. In a list of paths that all end in
    a blank and a number, and are no names of images, these are taken for labels.

    Paths are relative to the folder of the list; URLs and absolute paths are what they say. Empty
    lines are passed over. Only a line feed ends a line, also after a carriage return: a path may
    hold the other characters that Unicode breaks lines at. Names that are not UTF-8 are kept, as
    Python keeps names of files.

    Args:
        source: path or URL of the list, with or without a byte order mark.
        inside: refuse absolute paths, URLs and ``..``: the list says what lies in one folder.

    Raises:
        DataError: it cannot be read, or a line is none of these; says which.
    """
    named = str(source)
    try:
        content = read_file(named)
    except DataError as error:
        raise DataError(f"the image list {named!r} cannot be read: {error}") from error
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise DataError(
            f"the image list {named!r} cannot be read: it is not UTF-8 but UTF-16; expected a path "
            "on each line. Save it as UTF-8."
        )
    text = content.removeprefix(b"\xef\xbb\xbf").decode("utf-8", "surrogateescape")
    lines = [line.removesuffix("\r") for line in text.split("\n")]
    numbers = [number for number, line in enumerate(lines) if line.strip(_BLANK)]
    matches = [_LABELED.fullmatch(lines[number].strip(_BLANK)) for number in numbers]
    labeled = _are_labeled(matches)
    for number, match in zip(numbers, matches, strict=True):
        if "\0" in lines[number] or (labeled and match is None):
            raise _wrong_line(named, number, lines[number], inside)
        path = match["path"] if labeled and match is not None else lines[number]
        if inside and not _is_inside(path):
            raise _wrong_line(named, number, lines[number], inside)
    if not labeled:
        return ImageLines(tuple(lines[number] for number in numbers), None)
    pairs = [(match["path"], int(match["label"])) for match in matches if match is not None]
    return ImageLines(tuple(path for path, _ in pairs), tuple(label for _, label in pairs))


def _are_labeled(matches: Sequence[re.Match[str] | None]) -> bool:
    """Whether the lines of a file end in labels, or would if some were not wrong."""
    known = [match["path"] for match in matches if match is not None]
    return bool(known) and (len(known) == len(matches) or any(map(is_image_name, known)))


def _is_inside(path: str) -> bool:
    """Whether a path leads nowhere else than below its folder."""
    return not is_absolute(path) and ".." not in Path(path).parts


def _wrong_line(source: str, number: int, line: str, inside: bool) -> DataError:
    what = ": the file is no text" if "\0" in line else ""
    if inside:
        expected = "a path inside the folder of images, on all lines or none with a label"
    else:
        expected = "a path or URL, on all lines or none with a label"
    return DataError(
        f"line {number + 1} of {source!r} is {line.strip(_BLANK)[:80]!r}{what}; expected "
        f"{expected} as in 'cifar10/test/cat/0001.png 3'."
    )
