"""Exclusive locks on folders and files, which end with the process that holds them."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gradood.errors import ConfigError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

__all__ = ["exclusive"]

_NAME = ".lock"
_held: set[Path] = set()
_guard = threading.Lock()


@contextmanager
def exclusive(folder: Path, name: str = _NAME, *, of: Path | None = None) -> Iterator[None]:
    """The folder held against other processes, and against others in this process.

    Processes that are started meanwhile do not hold the lock. It is a file in the folder, which
    stays; on file systems without locks only this process is kept out.

    Args:
        folder: exists.
        name: of the lock; another one holds something else in the folder.
        of: the one file that it holds, for messages; None for the folder.

    Raises:
        ConfigError: it is held already, or may not be locked.
    """
    path = folder.resolve() / name
    kind, held = ("folder", folder) if of is None else ("file", of)
    with _guard:
        if path in _held:
            raise ConfigError(
                f"{str(held)!r} is in use by this process already; wait for it, or name another "
                f"{kind}."
            )
        _held.add(path)
    try:
        with path.open("a") as file:
            _lock(file.fileno(), held, kind)
            yield
    finally:
        with _guard:
            _held.discard(path)


def _lock(descriptor: int, held: Path, kind: str) -> None:
    if fcntl is None:
        return
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise ConfigError(
            f"another process is at work on {str(held)!r}; wait for it, or name another {kind}."
        ) from error
    except PermissionError as error:
        raise ConfigError(f"{str(held)!r} is locked: {error.strerror}.") from error
    except OSError:  # A file system without locks.
        pass
