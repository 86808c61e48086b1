"""The files that one Parquet data set is made of."""

import re
from pathlib import Path

from gradood.errors import DataError

__all__ = ["find_shards"]

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
    names = sorted(p.name for p in source.iterdir() if p.name.lower().endswith(".parquet"))
    names = [name for name in names if not name.startswith(".")]
    if not names:
        raise DataError(f"no .parquet file in {str(source)!r}; expected at least one.")
    _check_splits(source, names)
    _check_complete(source, names)
    return tuple(source / name for name in names)


def _check_splits(source: Path, names: list[str]) -> None:
    first = {re.split(r"[-_.]", name.lower(), maxsplit=1)[0] for name in names}
    splits = sorted(first.intersection(_SPLITS))
    if len(splits) > 1:
        raise DataError(
            f"{str(source)!r} holds the splits {', '.join(splits)}; expected the files of one. "
            "Name a file, or put each split in a folder of its own."
        )


def _check_complete(source: Path, names: list[str]) -> None:
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
