"""Files that are replaced as a whole or not at all, whatever happens on the way."""

import errno
import hashlib
import os
import re
import secrets
import stat
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

try:
    import fcntl
except ImportError:  # Windows, where a file that is open cannot be deleted anyway.
    fcntl = None

__all__ = ["replace", "write"]

_RENAMES_OPEN_FILES = os.name != "nt"
_LONGEST_STEM = 200
_OTHERS = {
    stat.S_IFDIR: (errno.EISDIR, "a folder"),
    stat.S_IFLNK: (errno.ELOOP, "a loop of symbolic links"),
    stat.S_IFIFO: (errno.EINVAL, "a pipe"),
    stat.S_IFSOCK: (errno.EINVAL, "a socket"),
}
"""What may be in the place of a file, with the error for it; devices besides."""


def replace(
    path: str | Path,
    parts: Iterable[bytes | bytearray | memoryview],
    verify: Callable[[BinaryIO], None],
) -> None:
    """Write a file beside `path`, verify it, and rename it into place.

    Until the rename whoever opens `path` finds what was there before, and afterwards the whole new
    file; a process that is killed leaves at most a temporary file, which the next `replace` of the
    same path removes. Of two at once, the later rename stays. A symbolic link is followed. A new
    file has the permissions that the umask gives, and one that is replaced keeps its own.

    Args:
        path: the file.
        parts: its content.
        verify: given the temporary file, to be read from its beginning; raises to give up.

    Raises:
        OSError: the folder is absent or cannot be written, the disk is full, …; or there is
            something else than a file, such as a device or a pipe. What was there before is
            unchanged.
    """
    target = Path(os.path.realpath(path))
    mode = _mode(target, path)
    try:
        _replace(target, mode, parts, verify)
    except OSError as error:
        if error.errno is None:
            raise
        raise OSError(
            error.errno,
            f"saving failed ({os.strerror(error.errno)}); what was there before is unchanged",
            str(path),
        ) from error


def write(path: str | Path, content: str | bytes) -> None:
    """Write a whole file by `replace`; a text as UTF-8.

    A device or a pipe, such as /dev/stdout, is written to as it is.

    Args:
        path: the file.
        content: of the file; what no character set has becomes a question mark.

    Raises:
        OSError: it cannot be written; what was there before is unchanged.
    """
    raw = content.encode("utf-8", "replace") if isinstance(content, str) else content
    file = Path(path)
    if file.exists() and not file.is_file() and not file.is_dir():
        file.write_bytes(raw)
    else:
        replace(file, [raw], lambda temporary: None)


def _mode(target: Path, path: str | Path) -> int | None:
    """Permissions of the file that is there, or None; refuses whatever is no file."""
    try:
        mode = os.lstat(target).st_mode
    except OSError:  # Absent, or its folder is: the next step says so.
        return None
    if stat.S_ISREG(mode):
        return stat.S_IMODE(mode)
    code, kind = _OTHERS.get(stat.S_IFMT(mode), (errno.EINVAL, "a device"))
    raise OSError(code, f"cannot save there, as it is no file but {kind}; name another", str(path))


def _replace(
    target: Path,
    mode: int | None,
    parts: Iterable[bytes | bytearray | memoryview],
    verify: Callable[[BinaryIO], None],
) -> None:
    _remove_stale(target)
    temporary, file = _create(target, 0o666 if mode is None else mode & 0o666)
    try:
        with file:
            for part in parts:
                file.write(part)
            file.flush()
            os.fsync(file.fileno())
            if hasattr(os, "posix_fadvise"):  # So that it is read from the disk, not from memory.
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            file.seek(0)
            verify(file)
            if mode is not None and stat.S_IMODE(os.fstat(file.fileno()).st_mode) != mode:
                temporary.chmod(mode)
            if _RENAMES_OPEN_FILES:  # Still locked, so that nobody takes it for stale.
                os.replace(temporary, target)
        if not _RENAMES_OPEN_FILES:
            os.replace(temporary, target)
    except BaseException:
        with suppress(OSError):
            temporary.unlink()
        raise
    _sync_folder(target.parent)


def _create(target: Path, mode: int) -> tuple[Path, BinaryIO]:
    """A new file beside the target, locked for as long as this process holds it open."""
    while True:
        temporary = target.parent / f".{_stem(target)}.{secrets.token_hex(8)}.tmp"
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
        file = os.fdopen(os.open(temporary, flags, mode), "w+b")
        if fcntl is None:
            return temporary, file
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
            # Between its creation and the lock, another save may have taken it for stale.
            if temporary.stat().st_ino == os.fstat(file.fileno()).st_ino:
                return temporary, file
        except FileNotFoundError:
            pass
        except OSError as error:  # A file system without locks.
            if error.errno not in (errno.ENOLCK, errno.ENOTSUP, errno.EINVAL, errno.ENOSYS):
                raise
            return temporary, file
        file.close()


def _remove_stale(target: Path) -> None:
    """Remove temporary files of the same target, whose writers are gone."""
    ours = re.compile(rf"\.{re.escape(_stem(target))}\.[0-9a-f]{{16}}\.tmp")
    for entry in os.listdir(target.parent):
        if ours.fullmatch(entry):
            with suppress(OSError):
                _remove_if_stale(target.parent / entry)


def _remove_if_stale(temporary: Path) -> None:
    if fcntl is None:
        temporary.unlink()
        return
    with temporary.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # Raises while its writer lives.
        temporary.unlink()


def _stem(target: Path) -> str:
    """The target's name; its hash where the temporary name would be too long for a folder."""
    name = os.fsencode(target.name)
    return target.name if len(name) <= _LONGEST_STEM else hashlib.sha256(name).hexdigest()[:32]


def _sync_folder(folder: Path) -> None:
    """Make the rename last through a power failure, where folders can be synchronized."""
    if not hasattr(os, "O_DIRECTORY"):
        return
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with suppress(OSError):  # Some network file systems refuse; the rename is done.
            os.fsync(handle)
    finally:
        os.close(handle)
