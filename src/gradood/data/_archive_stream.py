"""Bytes of an archive's file, unpacked where they are compressed, within a bound."""

import bz2
import gzip
import lzma
import os
import tarfile
from typing import Any, BinaryIO, final

from gradood.data._storage import MAX_BYTES, local_path, reaching

__all__ = ["COMPRESSED", "BoundedStream", "open_stream"]

COMPRESSED = {
    ".tar.gz": gzip.open,
    ".tgz": gzip.open,
    ".tar.bz2": bz2.open,
    ".tbz2": bz2.open,
    ".tar.xz": lzma.open,
    ".txz": lzma.open,
}
"""End of a tar file's name → what unpacks it."""

_RATIO, _SLACK = 100, 2**26
"""An archive may unpack to so many times its size, and so many bytes more; images hardly shrink."""


@final
class BoundedStream:
    """The bytes of a tar file, unpacked if they are compressed, up to a bound.

    Args:
        uri: of the file.
    """

    def __init__(self, uri: str) -> None:
        self._raw = open_stream(uri)
        opener = next((o for end, o in COMPRESSED.items() if uri.lower().endswith(end)), None)
        size = self._raw.seek(0, os.SEEK_END)
        self._raw.seek(0)
        self._stream: Any = self._raw if opener is None else opener(self._raw, "rb")
        self._bound = size if opener is None else size * _RATIO + _SLACK

    def __enter__(self) -> "BoundedStream":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def read(self, size: int) -> bytes:
        """At most so many bytes."""
        if size > MAX_BYTES:
            raise tarfile.ReadError(f"it announces {size} bytes for one member's name")
        self._check(self._stream.tell())
        return self._stream.read(size)

    def seek(self, position: int, whence: int = 0) -> int:
        """Go to a position."""
        assert whence == 0
        if self._stream is not self._raw:
            self._check(position)
        return self._stream.seek(position)

    def tell(self) -> int:
        """The position."""
        return self._stream.tell()

    def close(self) -> None:
        """Let go of the file."""
        if self._stream is not self._raw:
            self._stream.close()
        self._raw.close()

    def _check(self, position: int) -> None:
        if position > self._bound:
            raise tarfile.ReadError(
                f"it unpacks to more than {_RATIO} times its size, which no images do"
            )


def open_stream(uri: str) -> BinaryIO:
    """A file, open for reading at any position."""
    path = local_path(uri)
    if path is not None:
        if path.exists() and not path.is_file():  # Opening a pipe would wait forever.
            raise OSError("it is no regular file")
        return path.open("rb")
    with reaching(uri) as (files, remote):
        return files.open(remote, "rb")
