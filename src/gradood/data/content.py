"""What tells the content of files from any other, whatever they are called."""

import hashlib
from collections.abc import Iterable
from pathlib import Path

from gradood.errors import DataError

__all__ = ["digest_of_files", "file_digest"]


def file_digest(path: str | Path) -> str:
    """SHA-256 of a file.

    Raises:
        DataError: it cannot be read.
    """
    try:
        with Path(path).open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise DataError(
            f"{str(path)!r} cannot be read: {error.strerror or error}; expected a file."
        ) from error


def digest_of_files(paths: Iterable[Path]) -> str:
    """SHA-256 over the sizes and contents of files, in their order.

    A file that cannot be read counts as absent: what reads it as an image says what is wrong.
    """
    total = hashlib.sha256()
    for path in paths:
        try:
            content = path.read_bytes()
        except OSError:
            total.update(b"absent\n")
            continue
        total.update(b"%d %s\n" % (len(content), hashlib.sha256(content).digest()))
    return total.hexdigest()
