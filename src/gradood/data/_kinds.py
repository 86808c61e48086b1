"""What lies at a URI: a folder, a list, Parquet, archives, or an image."""

import os
from collections.abc import Sequence
from typing import Literal

from gradood.data._archives import ARCHIVE_EXTENSIONS, is_archive_name
from gradood.data._listing import HEIF_EXTENSIONS, LIST_EXTENSIONS, entries_of, is_image_name
from gradood.data._storage import check_protocols, local_path, reaching
from gradood.data._tables import is_parquet_name, is_partitioned
from gradood.errors import DataError

__all__ = ["Kind", "kind_of"]

Kind = Literal["archive", "folder", "parquet", "list", "image"]


def kind_of(uri: str) -> Kind:
    """What lies at a URI."""
    path = local_path(uri)
    if is_archive_name(uri) and "{" in uri and not (path is not None and os.path.lexists(path)):
        return "archive"
    if path is None:
        folder, names = _remote_entries(uri)
    elif path.is_dir():
        folder, names = True, entries_of(uri)
    elif os.path.lexists(path):
        folder, names = False, []
    else:
        raise DataError(
            f"{uri!r} does not exist; expected a folder of images, a .parquet file, a folder of "
            f"them, a .tar or .zip file, a list ({', '.join(LIST_EXTENSIONS)}) of paths and URLs, "
            "or an image; a slice such as [:2000] may follow."
        )
    if folder:
        if any(map(is_parquet_name, names)) or _holds_partitions(uri, names):
            return "parquet"
        shown = [name for name in names if not name.startswith(".")]
        return "archive" if shown and all(map(is_archive_name, shown)) else "folder"
    name = os.path.basename(uri.rstrip("/")) if path is None else path.name
    if is_parquet_name(name):
        return "parquet"
    if is_archive_name(name):
        return "archive"
    if is_image_name(name):
        return "image"
    if name.lower().endswith(LIST_EXTENSIONS):
        return "list"
    raise DataError(
        f"{uri!r} is neither a folder, nor Parquet (.parquet), nor a list of paths or URLs "
        f"({', '.join(LIST_EXTENSIONS)}), nor an archive ({', '.join(ARCHIVE_EXTENSIONS)}), nor an "
        f"image; expected one of these.{_unreadable_kind(name)}"
    )


def _unreadable_kind(name: str) -> str:
    """What to do about a kind of image that is not read, as a sentence; else empty."""
    if os.path.splitext(name)[1].lower() in HEIF_EXTENSIONS:
        return " HEIC is read where pillow-heif is installed: pip install pillow-heif."
    return ""


def _holds_partitions(uri: str, names: Sequence[str]) -> bool:
    """Whether there is Parquet in folders such as ``label=cat``."""
    if not is_partitioned(names):
        return False
    if any(map(is_image_name, names)):
        return False
    path = local_path(uri)
    if path is not None:
        return any(True for found in path.rglob("*.parquet") if found.is_file())
    with reaching(uri) as (files, remote):
        return any(map(is_parquet_name, map(os.path.basename, files.find(remote))))


def _remote_entries(url: str) -> tuple[bool, list[str]]:
    """Whether it is a folder, and the names in it."""
    check_protocols([url])
    with reaching(url) as (files, path):
        if files.isdir(path):
            entries = files.ls(path, detail=False)
            return True, [str(entry).rstrip("/").rpartition("/")[2] for entry in entries]
        if files.exists(path):
            return False, []
    raise DataError(f"nothing at {url!r}; expected a folder, a list or a Parquet file.")
