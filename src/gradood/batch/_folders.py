"""Folders that results go to: of this machine, or behind a URL that fsspec writes to.

What a store needs of a folder is that a file is whole or absent, and that a line which was appended
stays. An object storage has both for whole objects alone, so that there each line is one.
"""

import errno
import hashlib
import os
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO, final

from gradood._io.atomic import replace
from gradood._io.lock import exclusive
from gradood.data._storage import check_protocols, local_path, reaching
from gradood.errors import ConfigError, DataError

__all__ = ["LocalFolder", "ObjectFolder", "ResultFolder", "result_folder"]


class ResultFolder(ABC):
    """A folder of results, with one writer."""

    @abstractmethod
    @contextmanager
    def held(self, job: str) -> Iterator[None]:
        """The folder, made if need be, held against other writers.

        Args:
            job: name of the file that tells a folder of ours.

        Raises:
            ConfigError: it holds other files and no such file, or another writer is at work on it.
            OSError: it cannot be made.
        """
        yield

    @abstractmethod
    def names(self) -> list[str]:
        """Names of everything right in it."""

    @abstractmethod
    def read(self, name: str) -> bytes | None:
        """The content of a file; None if it is absent."""

    @abstractmethod
    def digest(self, name: str) -> str | None:
        """SHA-256 of a file; None if it is absent."""

    @abstractmethod
    def opened(self, name: str) -> Path | BinaryIO:
        """A file that is there, as PyArrow reads it."""

    @abstractmethod
    def write(self, name: str, content: bytes) -> None:
        """Write a whole file in the place of the one before, and read it back.

        Raises:
            OSError: it cannot be written; what was there is unchanged.
        """

    @abstractmethod
    def remove(self, name: str) -> None:
        """Remove a file."""

    @abstractmethod
    def lines(self, name: str) -> bytes:
        """All that was appended under a name; the last line may be cut short."""

    @abstractmethod
    def append(self, name: str, line: bytes) -> None:
        """Append a line; it stays whatever happens.

        Raises:
            OSError: it cannot be written; nothing of it remains.
        """

    @abstractmethod
    def rewrite_lines(self, name: str, text: bytes) -> None:
        """Replace all that was appended."""


def result_folder(out: str | Path) -> ResultFolder:
    """The folder of a path or URL.

    Raises:
        ImportError: the package that reads such URLs is not installed.
        DataError: there is no such kind of URL.
    """
    path = local_path(out) if isinstance(out, str) else out
    return ObjectFolder(str(out)) if path is None else LocalFolder(path)


@final
class LocalFolder(ResultFolder):
    """A folder of this machine.

    Args:
        path: of it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def __str__(self) -> str:
        return str(self.path)

    @contextmanager
    def held(self, job: str) -> Iterator[None]:
        folder = self.path
        if folder.exists() and not folder.is_dir():
            raise ConfigError(
                f"{str(folder)!r} is a file; results take a folder: name another one."
            )
        folder.mkdir(parents=True, exist_ok=True)
        # Hidden files are ours, from a start that was cut short, or the system's.
        if not (folder / job).exists() and any(name[0] != "." for name in os.listdir(folder)):
            raise _foreign(str(folder))
        with exclusive(folder):
            yield

    def names(self) -> list[str]:
        return os.listdir(self.path)

    def read(self, name: str) -> bytes | None:
        path = self.path / name
        return path.read_bytes() if path.exists() else None

    def digest(self, name: str) -> str | None:
        try:
            with (self.path / name).open("rb") as stream:
                return hashlib.file_digest(stream, "sha256").hexdigest()
        except OSError:
            return None

    def opened(self, name: str) -> Path | BinaryIO:
        return self.path / name

    def write(self, name: str, content: bytes) -> None:
        path = self.path / name
        path.parent.mkdir(exist_ok=True)
        replace(path, [content], _same(hashlib.sha256(content).hexdigest()))

    def remove(self, name: str) -> None:
        (self.path / name).unlink()

    def lines(self, name: str) -> bytes:
        return self.read(name) or b""

    def append(self, name: str, line: bytes) -> None:
        with (self.path / name).open("ab", buffering=0) as stream:
            before = os.fstat(stream.fileno()).st_size
            try:
                if stream.write(line) != len(line):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                os.fsync(stream.fileno())
            except OSError:
                with suppress(OSError):
                    os.ftruncate(stream.fileno(), before)
                raise

    def rewrite_lines(self, name: str, text: bytes) -> None:
        self.write(name, text)


@final
class ObjectFolder(ResultFolder):
    """A folder behind a URL, such as ``s3://bucket/scores``.

    An object is whole or absent. Each line is an object below ``NAME.d/``, numbered in order; all
    of them are written as NAME once more where they are rewritten. Nothing keeps another writer
    out: an object storage has no locks that end with a process.

    Args:
        url: of the folder.

    Raises:
        ImportError: the package that reads such URLs is not installed.
        DataError: there is no such kind of URL.
    """

    def __init__(self, url: str) -> None:
        check_protocols([url])
        self.url = url.rstrip("/")
        self._appended = 0

    def __str__(self) -> str:
        return self.url

    @contextmanager
    def held(self, job: str) -> Iterator[None]:
        names = self.names()
        if names and job not in names:
            raise _foreign(self.url)
        yield

    def names(self) -> list[str]:
        with self._reached() as (files, path):
            return [name.rpartition("/")[2] for name in _listed(files, path)]

    def read(self, name: str) -> bytes | None:
        with self._reached() as (files, path):
            try:
                return files.cat_file(f"{path}/{name}")
            except FileNotFoundError:
                return None

    def digest(self, name: str) -> str | None:
        content = self.read(name)
        return None if content is None else hashlib.sha256(content).hexdigest()

    def opened(self, name: str) -> Path | BinaryIO:
        content = self.read(name)
        if content is None:
            raise DataError(f"{self.url}/{name} is gone; run the same again.")
        return BytesIO(content)

    def write(self, name: str, content: bytes) -> None:
        with self._reached() as (files, path):
            target = f"{path}/{name}"
            files.makedirs(target.rpartition("/")[0], exist_ok=True)
            files.pipe_file(target, content)
            files.invalidate_cache()
            if files.cat_file(target) != content:
                raise OSError(errno.EIO, "what was written is not what is read back")

    def remove(self, name: str) -> None:
        with self._reached() as (files, path):
            files.rm_file(f"{path}/{name}")

    def lines(self, name: str) -> bytes:
        before = self.read(name) or b""
        with self._reached() as (files, path):
            parts = sorted(_listed(files, f"{path}/{name}.d"))
            self._appended = len(parts)
            content = files.cat(parts, on_error="raise") if parts else {}
        return before + b"".join(content[part] for part in parts)

    def append(self, name: str, line: bytes) -> None:
        self.write(f"{name}.d/{self._appended:08d}", line)
        self._appended += 1

    def rewrite_lines(self, name: str, text: bytes) -> None:
        # What fits a file last holds, so that lines that are there twice do no harm.
        self.write(name, text)
        with self._reached() as (files, path):
            for part in _listed(files, f"{path}/{name}.d"):
                files.rm_file(part)
        self._appended = 0

    @contextmanager
    def _reached(self) -> Iterator[tuple[Any, str]]:
        """The file system and the path; errors of the storage are `OSError` that name the URL."""
        try:
            with reaching(self.url) as (files, path):
                yield files, path.rstrip("/")
        except DataError as error:
            raise OSError(str(error)) from error


def _listed(files: Any, path: str) -> list[str]:
    """Paths of everything right in a folder; nothing if it is absent."""
    files.invalidate_cache()
    try:
        return [str(name).rstrip("/") for name in files.ls(path, detail=False)]
    except FileNotFoundError:
        return []


def _foreign(folder: str) -> ConfigError:
    return ConfigError(
        f"{folder!r} holds files, but no job of gradood's; name a new or empty folder."
    )


def _same(digest: str) -> Any:
    def verify(stream: BinaryIO) -> None:
        if hashlib.sha256(stream.read()).hexdigest() != digest:
            raise OSError(errno.EIO, "what was written is not what is read back")

    return verify
