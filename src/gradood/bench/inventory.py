"""What a suite reads, held against the files that are there."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from gradood.bench.suite import Suite
from gradood.data import open_images
from gradood.data._archive_source import expanded
from gradood.data._listing import LIST_EXTENSIONS, read_list
from gradood.data._storage import file_digest
from gradood.data.sources import split_slice
from gradood.errors import ConfigError, DataError

__all__ = ["Inventory", "find_root", "take_inventory"]

_SHOWN = 20
_LISTS = "benchmark_imglist"


@dataclass(frozen=True, slots=True)
class Inventory:
    """What was found.

    Attributes:
        root: the folder.
        digests: path → SHA-256 of the file; of a folder None.
        rows: path → images in it.
        faults: what is missing or differs, a line each.
    """

    root: Path
    digests: dict[str, str | None]
    rows: dict[str, int]
    faults: tuple[str, ...]

    def require(self, suite: Suite) -> None:
        """Raise unless everything is as the suite says.

        Raises:
            DataError: with the first 20 faults, and how many more there are.
        """
        if not self.faults:
            return
        shown = "; ".join(self.faults[:_SHOWN])
        more = len(self.faults) - _SHOWN
        rest = f"; and {more:,} more" if more > 0 else ""
        raise DataError(
            f"the data of {suite.name} in {str(self.root)!r} is not what version {suite.version} "
            f"of the suite was measured on: {shown}{rest}. Copy these again, or name another "
            "folder with --root."
        )


def find_root(suite: Suite, given: Path | None, *, source: str = "") -> Path:
    """The folder that a suite's paths are relative to.

    Without one given: of the suite's own file (layout ``files``) the folder that file is in;
    ``shared``: ``data`` in the folder that GRADOOD_SHARED names, or in ``../shared``; ``openood``:
    ``data``. An OpenOOD root may be the folder with ``benchmark_imglist``, or the one above it.

    Args:
        suite: whose.
        given: by the user, or None.
        source: what the suite was loaded from.

    Raises:
        DataError: there is no such folder; says where it was looked for.
    """
    if given is not None:
        tried = [given]
    elif suite.layout == "shared":
        named = os.environ.get("GRADOOD_SHARED")
        tried = [Path(named or "../shared") / "data"]
    elif suite.layout == "openood":
        tried = [Path()]
    else:
        tried = [Path(source).parent]
    if suite.layout == "openood":
        tried = [folder for one in tried for folder in (one, one / "data")]
        found = next((folder for folder in tried if (folder / _LISTS).is_dir()), None)
        what = f"a folder with {_LISTS!r} in it"
    else:
        found = next((folder for folder in tried if folder.is_dir()), None)
        what = "a folder"
    if found is None:
        places = " and ".join(repr(str(folder)) for folder in tried)
        raise DataError(
            f"no data of {suite.name}: looked for {what} at {places}; name the folder with --root"
            f"{', or with GRADOOD_SHARED the one above it' if suite.layout == 'shared' else ''}."
        )
    return found


def take_inventory(suite: Suite, root: Path, *, image_column: str = "image") -> Inventory:
    """Hold every file against the suite: is it there, its hash, its rows, and the images it lists.

    Args:
        suite: what is expected.
        root: from `find_root`.
        image_column: of Parquet files.

    Cost: reads every Parquet file and list once; asks for every listed image whether it exists.
    """
    digests: dict[str, str | None] = {}
    rows: dict[str, int] = {}
    faults: list[str] = []
    for path in suite.paths:
        file = split_slice(root / path)[0]
        missing = [part for part in expanded(str(file)) if not Path(part).exists()]
        if missing and not file.exists():
            faults += [f"{os.path.relpath(part, root)} is missing" for part in missing]
            continue
        digests[path] = file_digest(file) if file.is_file() else None
        wanted = suite.hashes.get(path)
        if wanted is not None and digests[path] != wanted:
            faults.append(
                f"{path} has the SHA-256 {str(digests[path])[:16]}…, expected {wanted[:16]}…"
            )
        try:
            rows[path] = _rows(root / path, image_column)
        except (DataError, ConfigError) as error:
            faults.append(f"{path} cannot be read: {error}")
            continue
        if path in suite.rows and rows[path] != suite.rows[path]:
            faults.append(f"{path} has {rows[path]:,} images, expected {suite.rows[path]:,}")
        faults += _unlisted(suite, root, path, file)
    return Inventory(root, digests, rows, tuple(faults))


def _rows(path: Path, image_column: str) -> int:
    return len(open_images(path, labeled=False, image_column=image_column))


def _unlisted(suite: Suite, root: Path, path: str, file: Path) -> Iterator[str]:
    """Images that a list names and that are not there."""
    if file.is_dir() or not file.name.lower().endswith(LIST_EXTENSIONS):
        return
    images = suite.images(path)
    folder = file.parent if images is None else root / images
    for name in read_list(file, inside=images is not None).paths:
        if "://" not in name and not os.path.exists(folder / name):
            shown = name if images is None else f"{images}/{name}"
            yield f"{shown}, which {path} lists, is missing"
