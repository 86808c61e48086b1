"""One string to a listing: an image folder, a list of paths or URLs, or Parquet."""

import os
from pathlib import Path

from gradood.batch.listing import Files, Listing, ParquetRows, Part
from gradood.data.columns import Columns
from gradood.data.folder import EXTENSIONS, find_images, is_image_name
from gradood.data.remote import (
    check_protocols,
    fetch,
    find_remote_images,
    is_remote_folder,
    local_path,
    remote_tables,
)
from gradood.data.shards import find_shards, is_parquet_name
from gradood.data.source import split_text
from gradood.data.tables import Tables
from gradood.errors import DataError

__all__ = ["list_images"]

_CACHE_BYTES = 64 * 2**20
_LISTS = (".list", ".lst", ".txt")


def list_images(source: str, *, image_column: str = "image") -> Listing:
    """The images that an input holds, in a fixed order.

    Args:
        source: a path or URL, which a slice such as ``[:2000]`` may follow, of one of

            - a folder: every entry below it that is named like an image, in any layout;
            - a ``.parquet`` file, or a folder with some: every row;
            - a ``.txt``, ``.lst`` or ``.list`` file: every line that is not blank, a path (relative
              to the folder the command runs in) or URL each;
            - an image file.
        image_column: of Parquet files, where the images are.

    Raises:
        DataError: there is nothing, or something else, or no image in it.
        ConfigError: there is no such column.
        ImportError: the package that reads such URLs is not installed.

    Cost:
        Lists a folder once, reads the footers and the column of names of Parquet files. Keeps the
        names in memory.
    """
    path = local_path(source)
    written = path is not None and os.path.lexists(path)  # Perhaps as a name like a slice.
    bare, part = (source, slice(None)) if written else split_text(source)
    path = local_path(bare)
    found = _remote(bare, image_column) if path is None else _local(bare, path, image_column)
    if not len(found):
        raise DataError(
            f"no image in {bare!r}: expected files ending in {', '.join(sorted(EXTENSIONS))}, a "
            "list of such, or Parquet with rows."
        )
    rows = range(len(found))[part]
    if not rows:
        raise DataError(f"{len(found)} images in {bare!r}, and none in {source!r}; expected some.")
    return found if len(rows) == len(found) else Part(source, found, rows)


def _local(source: str, path: Path, image_column: str) -> Listing:
    here = os.path.join(os.path.abspath(""), "")
    if path.is_dir():
        if any(is_parquet_name(entry.name) for entry in path.iterdir()):
            return _parquet(source, path, image_column)
        return Files(source, find_images(path), os.path.join(os.path.abspath(path), ""))
    if not path.exists() and not path.is_symlink():
        raise DataError(
            f"{source!r} does not exist; expected a folder of images, a list (.txt) or Parquet."
        )
    if is_parquet_name(path.name):
        return _parquet(source, path, image_column)
    if is_image_name(path.name):
        return Files(source, [str(path)], here)
    _check_list(source, path.name)
    try:
        return _listed(source, path.read_bytes(), here)
    except OSError as error:
        raise DataError(f"{source!r} cannot be read: {error.strerror or error}.") from error


def _remote(source: str, image_column: str) -> Listing:
    above, _, name = source.rstrip("/").rpartition("/")
    folder = is_remote_folder(source)
    if folder or is_parquet_name(name):
        base = f"{source.rstrip('/') if folder else above}/"
        tables = remote_tables(source, cache_bytes=_CACHE_BYTES)
        if tables is None:
            return Files(source, find_remote_images(source), base)
        return ParquetRows(source, tables, _columns(tables, image_column), base)
    if is_image_name(name):
        return Files(source, [source], "")
    _check_list(source, name)
    return _listed(source, fetch(source), os.path.join(os.path.abspath(""), ""))


def _parquet(source: str, path: Path, image_column: str) -> ParquetRows:
    tables = Tables(find_shards(path), cache_bytes=_CACHE_BYTES)
    return ParquetRows(source, tables, _columns(tables, image_column))


def _columns(tables: Tables, image_column: str) -> Columns:
    return Columns.of(tables, image=image_column, label="label", name="name", labeled=False)


def _check_list(source: str, name: str) -> None:
    if not name.lower().endswith(_LISTS):
        raise DataError(
            f"{source!r} is neither a folder, nor Parquet (.parquet), nor a list of paths or URLs "
            f"({', '.join(_LISTS)}), nor an image."
        )


def _listed(source: str, content: bytes, base: str) -> Files:
    # As names of files are: bytes that are not UTF-8 are kept.
    text = content.removeprefix(b"\xef\xbb\xbf").decode("utf-8", "surrogateescape")
    if "\0" in text:
        raise DataError(f"{source!r} is no text; expected a path or URL on each line.")
    lines = [line.removesuffix("\r") for line in text.split("\n")]
    names = [line for line in lines if line.strip()]
    check_protocols(names)
    return Files(source, names, base)
