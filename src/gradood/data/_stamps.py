"""Stamps of files: what differs once the content of a file was changed."""

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from gradood.data._storage import local_path, reaching
from gradood.errors import DataError

__all__ = ["file_stamps"]

_THREADS = 16
_VERSIONS = (
    *("ETag", "etag", "md5Hash", "md5", "content_md5", "Content-MD5", "crc32c", "checksum"),
    *("generation", "versionId", "mtime", "LastModified", "last_modified", "Last-Modified"),
    *("updated", "modified", "created"),
)
"""What the storages that fsspec reads call a checksum, a version or a time of change."""


def file_stamps(uris: Sequence[str]) -> list[str | None]:
    """Of each file what differs once its content was changed.

    Of a file of this machine: its size, and the times of the last change of content and of entry,
    the latter of which no program can set back. Of another: its size, and whatever checksum,
    version or time its storage tells; None where it tells none.

    Args:
        uris: paths and URLs.

    Cost: a look at each file; URLs are asked for in 16 threads.
    """
    stamps: list[str | None] = []
    remote: list[int] = []
    for place, uri in enumerate(uris):
        path = local_path(uri)
        if path is None:
            remote.append(place)
            stamps.append(None)
        else:
            stamps.append(_local(path))
    if remote:
        with ThreadPoolExecutor(_THREADS) as threads:
            told = threads.map(_remote, [uris[place] for place in remote])
            for place, stamp in zip(remote, told, strict=True):
                stamps[place] = stamp
    return stamps


def _local(path: os.PathLike[str]) -> str:
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return "absent"
    return f"{status.st_size}:{status.st_mtime_ns}:{status.st_ctime_ns}"


def _remote(url: str) -> str | None:
    try:
        with reaching(url) as (files, path):
            known: Mapping[str, Any] = files.info(path)
    except DataError:
        return None
    versions = [f"{key}={known[key]}" for key in _VERSIONS if known.get(key) is not None]
    return ":".join([str(known.get("size")), *versions]) if versions else None
