"""Files by URI: paths of this machine, and URLs that fsspec reads, such as ``s3://``.

A plain path and its ``file://`` URL are the same file. Local files are read by the standard
library: they need no fsspec, and links that form a loop, names that are not UTF-8, pipes and
unreadable files stay what they are.
"""

import hashlib
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, final

from gradood.data._extras import arrow, filesystems
from gradood.errors import BadImageError, DataError, GradoodError

__all__ = [
    "MAX_BYTES",
    "RemoteFolder",
    "absolute_folder",
    "check_protocols",
    "encoded_file",
    "fetch",
    "file_digest",
    "files_digest",
    "is_absolute",
    "joined",
    "local_path",
    "parent_folder",
    "reaching",
    "read_file",
]

MAX_BYTES = 256 * 2**20
"""Largest image file that is fetched."""

_URL = re.compile(r"(?P<protocol>[A-Za-z][A-Za-z0-9+.\-]*)://")


def local_path(uri: str) -> Path | None:
    """The path that a URI names: any but a URL, or a ``file://`` URL; None for other URLs.

    As in fsspec, ``%20`` in a ``file://`` URL means just that.

    >>> local_path("file:///data/a.png").as_posix(), local_path("s3://bucket/a.png")
    ('/data/a.png', None)
    """
    match = _URL.match(uri)
    if match is None:
        return Path(uri)
    if match["protocol"].lower() in ("file", "local"):
        return Path(uri[match.end() :])
    return None


def is_absolute(uri: str) -> bool:
    """Whether it is a URL or an absolute path, which no folder goes before."""
    return os.path.isabs(uri) or "://" in uri


def joined(folder: str | Path, uri: str) -> str:
    """A URI relative to a folder, as one; a URL or an absolute path stays as it is.

    Args:
        folder: a path or URL.
        uri: of a file.

    >>> joined("s3://bucket/x", "a.png"), joined("data", "s3://bucket/a.png"), joined("", "a.png")
    ('s3://bucket/x/a.png', 's3://bucket/a.png', 'a.png')
    """
    above = str(folder)
    if is_absolute(uri) or above in ("", "."):
        return uri
    return f"{above.rstrip('/')}/{uri}" if "://" in above else os.path.join(above, uri)


def absolute_folder(uri: str) -> str:
    """A folder's absolute path or URL, which ends in ``/``."""
    path = local_path(uri)
    return f"{uri.rstrip('/')}/" if path is None else os.path.join(os.path.abspath(path), "")


def parent_folder(uri: str) -> str:
    """The folder that holds a file, as an absolute path or URL that ends in ``/``."""
    path = local_path(uri)
    if path is None:
        return uri.rstrip("/").rpartition("/")[0] + "/"
    return os.path.join(os.path.dirname(os.path.abspath(path)), "")


def check_protocols(urls: Iterable[str]) -> None:
    """Whether the URLs can be read here, before hours of work rather than one by one.

    Args:
        urls: any texts; those that are no URLs are passed over.

    Raises:
        ImportError: the package that reads a kind of URL is not installed.
        DataError: there is no such kind of URL.
    """
    examples: dict[str, str] = {}
    for url in urls:
        match = _URL.match(url)
        if match is not None and local_path(url) is None:
            examples.setdefault(match["protocol"], url)
    for protocol, url in examples.items():
        try:
            filesystems().get_filesystem_class(protocol)
        except ValueError as error:
            raise DataError(
                f"{url!r} begins with {protocol}://, which fsspec does not know; expected a path, "
                "or a URL such as s3://bucket/image.jpg."
            ) from error


def encoded_file(uri: str) -> bytes | Path:
    """An image file's content, or where it is on this machine.

    Raises:
        BadImageError: it cannot be fetched, or is too large.
    """
    path = local_path(uri)
    return fetch(uri) if path is None else path


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
        raise BadImageError(f"it cannot be fetched: {_described(error)}", "unreadable") from error
    if len(content) > max_bytes:
        raise BadImageError(
            f"it is too large: more than {max_bytes} bytes of encoded image.", "too_large"
        )
    return content


def read_file(uri: str) -> bytes:
    """The content of a file other than an image.

    Raises:
        DataError: it cannot be read.
    """
    path = local_path(uri)
    if path is None:
        with reaching(uri) as (files, remote):
            return files.cat_file(remote)
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"{uri!r} cannot be read: {error.strerror or error}.") from error


def file_digest(uri: str | Path) -> str:
    """SHA-256 of a file.

    Raises:
        DataError: it cannot be read.

    Cost: the file is read once; a few megabytes of memory.
    """
    path = local_path(str(uri)) if isinstance(uri, str) else uri
    if path is None:
        with reaching(str(uri)) as (files, remote), files.open(remote, "rb") as stream:
            digest = hashlib.sha256()
            while part := stream.read(1 << 20):
                digest.update(part)
            return digest.hexdigest()
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise DataError(
            f"{str(uri)!r} cannot be read: {error.strerror or error}; expected a file."
        ) from error


def files_digest(uris: Iterable[str]) -> str:
    """SHA-256 over the sizes and contents of files, in their order.

    A file that cannot be read counts as absent: what reads it as an image says what is wrong.
    """
    total = hashlib.sha256()
    for uri in uris:
        try:
            encoded = encoded_file(uri)
            content = encoded if isinstance(encoded, bytes) else encoded.read_bytes()
        except (OSError, BadImageError):
            total.update(b"absent\n")
            continue
        total.update(b"%d %s\n" % (len(content), hashlib.sha256(content).digest()))
    return total.hexdigest()


@contextmanager
def reaching(url: str) -> Iterator[tuple[Any, str]]:
    """The fsspec file system of a URL and the path in it; errors inside name the URL.

    Raises:
        ImportError: the package that reads such URLs is not installed.
        DataError: the storage cannot be reached, or does not know the path.
    """
    check_protocols([url])
    try:
        yield filesystems().core.url_to_fs(url)
    except (ImportError, MemoryError, GradoodError):
        raise
    except Exception as error:  # Each kind of storage has errors of its own.
        raise DataError(
            f"{url!r} cannot be reached: {_described(error)}; check it, and whether you may read "
            "it."
        ) from error


@final
class RemoteFolder:
    """A folder behind a URL, as a file system of PyArrow's.

    The connection belongs to the process that made it: a forked process makes its own.

    Args:
        url: of the folder.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self._owner: tuple[int, Any] = (-1, None)

    def __getstate__(self) -> dict[str, Any]:
        return {"url": self.url, "_owner": (-1, None)}

    def filesystem(self) -> Any:
        """A `pyarrow.fs.FileSystem` whose paths are relative to the folder."""
        process, made = self._owner
        if process != os.getpid():
            arrow()
            from pyarrow.fs import FSSpecHandler, PyFileSystem

            with reaching(self.url) as (files, path):
                wrapper = filesystems("fsspec.implementations.dirfs")
                made = PyFileSystem(FSSpecHandler(wrapper.DirFileSystem(path=path, fs=files)))
            self._owner = (os.getpid(), made)
        return made


def _described(error: Exception) -> str:
    first = (str(error).strip().splitlines() or [""])[0]
    return f"{type(error).__name__}: {first}".rstrip(": ")
