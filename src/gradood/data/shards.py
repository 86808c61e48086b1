"""The files that one Parquet data set is made of."""

import re
from collections.abc import Iterable
from pathlib import Path, PurePath

from gradood.errors import DataError

__all__ = ["find_shards", "is_parquet_name", "shard_names"]

_NUMBERED = re.compile(r"(?P<stem>.*)-(?P<number>\d{5})-of-(?P<count>\d{5})")
_SPLITS = ("dev", "test", "train", "val", "valid", "validation")


def find_shards(source: Path) -> tuple[Path, ...]:
    """A file as it is; of a folder all its ``.parquet`` files, in the order of their names.

    Args:
        source: a file or folder.

    Raises:
        DataError: there is none, a numbered one (``…-00003-of-00005``) is missing, or the names
            say that they are different splits of a data set.
    """
    if source.is_file():
        return (source,)
    if not source.is_dir():
        raise DataError(f"no Parquet file or folder {str(source)!r}; expected one that exists.")
    return tuple(source / name for name in shard_names(source, [p.name for p in source.iterdir()]))


def shard_names(source: PurePath, names: Iterable[str]) -> list[str]:
    """The ``.parquet`` files among the names in a folder, sorted.

    Args:
        source: the folder, for errors.
        names: of its files.

    Raises:
        DataError: as `find_shards`.
    """
    found = sorted(name for name in names if is_parquet_name(name))
    if not found:
        raise DataError(f"no .parquet file in {str(source)!r}; expected at least one.")
    _check_splits(source, found)
    _check_complete(source, found)
    return found


def is_parquet_name(name: str) -> bool:
    """Whether a file is taken for Parquet, by its name."""
    return name.lower().endswith(".parquet") and not name.startswith(".")


def _check_splits(source: PurePath, names: list[str]) -> None:
    first = {re.split(r"[-_.]", name.lower(), maxsplit=1)[0] for name in names}
    splits = sorted(first.intersection(_SPLITS))
    if len(splits) > 1:
        raise DataError(
            f"{str(source)!r} holds the splits {', '.join(splits)}; expected the files of one. "
            "Name a file, or put each split in a folder of its own."
        )


def _check_complete(source: PurePath, names: list[str]) -> None:
    found: dict[tuple[str, int], set[int]] = {}
    for name in names:
        match = _NUMBERED.fullmatch(Path(name).stem)
        if match:
            key = match["stem"], int(match["count"])
            found.setdefault(key, set()).add(int(match["number"]))
    for (stem, count), numbers in found.items():
        missing = sorted(set(range(count)) - numbers)
        if missing:
            listed = ", ".join(f"{number:05d}" for number in missing[:5])
            raise DataError(
                f"{len(missing)} of {count} shards of {stem!r} are missing in {str(source)!r} "
                f"({listed}{', …' if len(missing) > 5 else ''}); expected all of them."
            )
