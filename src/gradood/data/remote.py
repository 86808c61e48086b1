"""Files behind URLs, through fsspec: ``s3://``, ``gs://``, ``https://``, ``memory://`` and more."""

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

from gradood.data.extras import arrow, filesystems
from gradood.data.folder import is_image_name
from gradood.data.shards import is_parquet_name, shard_names
from gradood.data.tables import Tables
from gradood.errors import BadImageError, DataError, GradoodError

__all__ = [
    "MAX_BYTES",
    "check_protocols",
    "fetch",
    "find_remote_images",
    "is_remote_folder",
    "local_path",
    "remote_tables",
]

MAX_BYTES = 256 * 2**20
"""Largest image file that is fetched."""

_URL = re.compile(r"(?P<protocol>[A-Za-z][A-Za-z0-9+.\-]*)://")


def local_path(text: str) -> Path | None:
    """The path that a text names: any but a URL, or a ``file://`` URL; None for other URLs.

    As in fsspec, ``%20`` in a ``file://`` URL means just that.

    >>> local_path("file:///data/a.png").as_posix(), local_path("s3://bucket/a.png")
    ('/data/a.png', None)
    """
    match = _URL.match(text)
    if match is None:
        return Path(text)
    if match["protocol"].lower() in ("file", "local"):
        return Path(text[match.end() :])
    return None


def check_protocols(urls: Iterable[str]) -> None:
    """Whether the URLs can be read here, before hours of work rather than one by one.

    Args:
        urls: any texts; those that are no URLs are passed over.

    Raises:
        ImportError: the package that reads a kind of URL is not installed.
        DataError: there is no such kind of URL.
    """
    found: dict[str, str] = {}
    for url in urls:
        match = _URL.match(url)
        if match is not None and local_path(url) is None:
            found.setdefault(match["protocol"], url)
    for protocol, url in found.items():
        try:
            filesystems().get_filesystem_class(protocol)
        except ValueError as error:
            raise DataError(
                f"{url!r} begins with {protocol}://, which fsspec does not know; expected a path, "
                "or a URL such as s3://bucket/image.jpg."
            ) from error


def fetch(url: str, *, max_bytes: int = MAX_BYTES) -> bytes:
    """The content of the file behind a URL.

    Args:
        url: not a local one.
        max_bytes: refuse larger files.

    Raises:
        BadImageError: it cannot be fetched, or is too large.
    """
    try:
        files, path = filesystems().core.url_to_fs(url)
        with files.open(path, "rb") as stream:
            content = stream.read(max_bytes + 1)
    except (ImportError, MemoryError):
        raise
    except Exception as error:  # Each kind of storage has errors of its own.
        raise BadImageError(f"it cannot be fetched: {_named(error)}", "unreadable") from error
    if len(content) > max_bytes:
        raise BadImageError(
            f"it is too large: more than {max_bytes} bytes of encoded image.", "too_large"
        )
    return content


def is_remote_folder(url: str) -> bool:
    """Whether files lie below a URL.

    Raises:
        DataError: there is neither file nor folder.
    """
    with _reaching(url) as (files, path):
        if files.isdir(path):
            return True
        if files.exists(path):
            return False
    raise DataError(f"nothing at {url!r}; expected a folder, a list or a Parquet file.")


def find_remote_images(url: str) -> list[str]:
    """Every file below a URL that is named like an image, sorted; see `find_images`.

    Returns:
        Paths relative to the URL, with ``/``.
    """
    with _reaching(url) as (files, path):
        root = path.rstrip("/")
        found = [str(path).removeprefix(root).lstrip("/") for path in files.find(root or "/")]
    return sorted(
        path
        for path in found
        if is_image_name(path) and not any(part.startswith(".") for part in path.split("/"))
    )


def remote_tables(url: str, *, cache_bytes: int) -> Tables | None:
    """The Parquet file behind a URL, or all of a folder; None if there are none in the folder.

    Their paths are their names.

    Args:
        url: not a local one.
        cache_bytes: as for `Tables`.

    Raises:
        DataError: a file is damaged, or one of a numbered set is missing.
    """
    arrow()
    from pyarrow.fs import FSSpecHandler, PyFileSystem

    with _reaching(url) as (files, path):
        folder, _, name = path.rstrip("/").rpartition("/")
        names = [name]
        if files.isdir(path):
            folder = path
            names = [PurePosixPath(entry["name"]).name for entry in files.ls(path, detail=True)]
            if not any(map(is_parquet_name, names)):
                return None
            names = shard_names(PurePosixPath(path), names)
        below = filesystems("fsspec.implementations.dirfs").DirFileSystem(path=folder, fs=files)
        return Tables(
            [PurePosixPath(name) for name in names],
            cache_bytes=cache_bytes,
            filesystem=PyFileSystem(FSSpecHandler(below)),
        )


@contextmanager
def _reaching(url: str) -> Iterator[tuple[Any, str]]:
    """The file system, and the path in it; what goes wrong inside is said of the URL."""
    check_protocols([url])
    try:
        yield filesystems().core.url_to_fs(url)
    except (ImportError, MemoryError, GradoodError):
        raise
    except Exception as error:  # Each kind of storage has errors of its own.
        raise DataError(
            f"{url!r} cannot be reached: {_named(error)}; check it, and whether you may read it."
        ) from error


def _named(error: Exception) -> str:
    first = (str(error).strip().splitlines() or [""])[0]
    return f"{type(error).__name__}: {first}".rstrip(": ")
