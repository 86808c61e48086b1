"""Members of tar and zip archives, read in place: nothing is ever written to disk."""

import os
import stat
import tarfile
import threading
import weakref
import zipfile
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast, final

from gradood.data._archive_stream import COMPRESSED, BoundedStream, open_stream
from gradood.data._storage import MAX_BYTES
from gradood.errors import BadImageError, DataError, GradoodError

__all__ = ["ARCHIVE_EXTENSIONS", "Archive", "Member", "is_archive_name", "open_archive"]

ARCHIVE_EXTENSIONS = (".tar", ".zip", *COMPRESSED)
"""Ends of the names of files that are taken for archives, in lower case."""

_BLOCK = 512


@dataclass(frozen=True, slots=True)
class Member:
    """A regular file in an archive.

    Attributes:
        name: its path, without ``.`` and empty parts.
        size: in bytes, unpacked.
        at: where it is: a position, or a number.
        stamp: what differs once its content was changed; None where only the archive's file tells.
    """

    name: str
    size: int
    at: int
    stamp: str | None = None


def is_archive_name(name: str) -> bool:
    """Whether a file is taken for an archive, by the end of its name."""
    return name.lower().endswith(ARCHIVE_EXTENSIONS)


class Archive(ABC):
    """The regular files of an archive, listed once and read when asked for.

    It can be sent to other processes; each opens the file itself. Links, devices, names with
    ``..`` and encrypted members are passed over and counted, hidden ones (``.x``, ``__MACOSX``)
    only passed over. Of several members of one name the last counts, as when one unpacks.

    Args:
        uri: path or URL.

    Attributes:
        uri: path or URL.
        members: in the order of the archive.
        folders: names of the folders it lists, without a final ``/``.
        passed_over: how many members cannot be used, by what they are.

    Raises:
        DataError: it cannot be read, is damaged or cut short, or would unpack to far more than any
            images do.

    Cost: a zip file's table of contents; a pass over a tar file, from head to head, or over all of
    its content where it is compressed.
    """

    def __init__(self, uri: str) -> None:
        self.uri = uri
        self.folders: list[str] = []
        self._passed_over: Counter[str] = Counter()
        self._owner: tuple[int, Any, Any] = (-1, None, None)
        found: dict[str, Member] = {}
        with _naming(uri):
            for member in self._listed():
                found.pop(member.name, None)
                found[member.name] = member
        self.members = tuple(found.values())
        self.passed_over = dict(sorted(self._passed_over.items()))

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_owner": (-1, None, None)}

    @final
    def read(self, member: Member) -> bytes:
        """The content of a member.

        Raises:
            BadImageError: it is too large, damaged, or no longer there.
        """
        if member.size > MAX_BYTES:
            raise BadImageError(
                f"it is too large: {member.size} bytes, and the limit is {MAX_BYTES}.", "too_large"
            )
        try:
            opened, lock = self._opened()
            with lock:
                content = self._content(opened, member)
        except (MemoryError, BadImageError):
            raise
        except Exception as error:  # What a damaged archive makes its reader raise.
            raise BadImageError(
                f"it cannot be read from its archive: {type(error).__name__}: {error}", "unreadable"
            ) from error
        if len(content) != member.size:
            raise BadImageError(
                f"its archive ends after {len(content)} of its {member.size} bytes.", "truncated"
            )
        return content

    @abstractmethod
    def _listed(self) -> Iterator[Member]:
        """Every usable member; folders and what is passed over are noted on the way."""

    @abstractmethod
    def _open(self) -> Any:
        """The archive, open for reading."""

    @abstractmethod
    def _content(self, opened: Any, member: Member) -> bytes:
        """At most `MAX_BYTES` of a member."""

    def _opened(self) -> tuple[Any, Any]:
        process, opened, lock = self._owner
        if process != os.getpid():  # A position in a file is shared by forked processes.
            if opened is not None:
                opened.close()
            opened, lock = self._open(), threading.Lock()
            self._owner = (os.getpid(), opened, lock)
            weakref.finalize(self, opened.close)
        return opened, lock

    def _usable(self, name: str) -> str | None:
        """The name in plain form; None if the member is passed over."""
        parts = [part for part in name.replace("\\", "/").split("/") if part not in ("", ".")]
        if ".." in parts:
            self._passed_over["names with .."] += 1
            return None
        hidden = any(part.startswith(".") or part == "__MACOSX" for part in parts)
        return None if hidden or not parts else "/".join(parts)


@final
class _Tar(Archive):
    """A tar file; compressed, it is read from its beginning to what is asked for."""

    def _listed(self) -> Iterator[Member]:
        with (
            BoundedStream(self.uri) as stream,
            tarfile.open(fileobj=cast(Any, stream), mode="r:") as tar,
        ):
            for info in tar:
                name = self._usable(info.name)
                if name is None:
                    continue
                if info.isdir():
                    self.folders.append(name)
                elif not info.isreg() or info.issparse():
                    self._passed_over["links and devices"] += 1
                else:
                    yield Member(name, info.size, info.offset_data)
                cast(Any, tar).members = []  # Else it keeps all of them.
            stream.seek(tar.offset)
            if stream.read(_BLOCK) != bytes(_BLOCK):
                raise tarfile.ReadError(
                    "it is damaged or cut short, as its end is not marked as one"
                )

    def _open(self) -> Any:
        return BoundedStream(self.uri)

    def _content(self, opened: Any, member: Member) -> bytes:
        opened.seek(member.at)
        return opened.read(member.size)


@final
class _Zip(Archive):
    """A zip file."""

    def _listed(self) -> Iterator[Member]:
        with open_stream(self.uri) as stream, zipfile.ZipFile(stream) as archive:
            for number, info in enumerate(archive.infolist()):
                name = self._usable(info.filename)
                kind = stat.S_IFMT(info.external_attr >> 16)
                if name is None:
                    continue
                if info.is_dir():
                    self.folders.append(name)
                elif kind not in (0, stat.S_IFREG):
                    self._passed_over["links and devices"] += 1
                elif info.flag_bits & 1:
                    self._passed_over["encrypted"] += 1
                else:
                    yield Member(name, info.file_size, number, f"{info.file_size}:{info.CRC:08x}")

    def _open(self) -> Any:
        stream = open_stream(self.uri)
        try:
            archive = zipfile.ZipFile(stream)
        except BaseException:
            stream.close()
            raise
        weakref.finalize(archive, stream.close)
        return archive

    def _content(self, opened: Any, member: Member) -> bytes:
        infos = opened.infolist()
        info = infos[member.at] if member.at < len(infos) else None
        if info is None or f"{info.file_size}:{info.CRC:08x}" != member.stamp:
            raise BadImageError("its archive was changed while it was read.", "unreadable")
        with opened.open(info) as stream:
            return stream.read(MAX_BYTES)


def open_archive(uri: str) -> Archive:
    """The archive at a path or URL.

    Args:
        uri: whose name ends as `ARCHIVE_EXTENSIONS` do.

    Raises:
        DataError: see `Archive`.
    """
    return _Zip(uri) if uri.lower().endswith(".zip") else _Tar(uri)


@contextmanager
def _naming(uri: str) -> Iterator[None]:
    """Errors inside become a DataError that names the archive."""
    try:
        yield
    except (ImportError, MemoryError, GradoodError):
        raise
    except Exception as error:  # What a damaged archive makes its reader raise.
        why = (getattr(error, "strerror", None) or str(error) or type(error).__name__).rstrip(".")
        raise DataError(
            f"the archive {uri!r} cannot be read: {why}; expected a sound "
            f"{', '.join(ARCHIVE_EXTENSIONS)} file. Copy it again."
        ) from error
