"""Rows of the Parquet files of one data set, read one row group at a time."""

import os
import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import accumulate
from pathlib import Path, PurePath, PurePosixPath
from typing import Any, final
from urllib.parse import unquote

from gradood.data._extras import arrow, parquet
from gradood.data._storage import RemoteFolder, absolute_folder, local_path, parent_folder, reaching
from gradood.errors import DataError

__all__ = ["Tables", "is_parquet_name", "is_partitioned", "open_tables"]

_NUMBERED = re.compile(r"(?P<stem>.*)-(?P<number>\d{5})-of-(?P<count>\d{5})")
_SPLITS = ("dev", "test", "train", "val", "valid", "validation")


@final
class Tables:
    """Parquet files, one after another.

    No file stays open and no thread is started, so that an instance works in the processes of a
    `DataLoader`, forked or spawned. Row groups read last are kept.

    Args:
        paths: the files.
        cache_bytes: how much of the row groups read last is kept; always at least the last.
        folder: what the paths are relative to if they are remote; None for files of this machine.
        root: what the files are named relative to; None for the folder of each.

    Attributes:
        paths: the files.
        schemas: `pyarrow.Schema` of each.
        rows: of all files together.

    Raises:
        DataError: a file is damaged, or no Parquet.
    """

    def __init__(
        self,
        paths: Sequence[PurePath],
        *,
        cache_bytes: int,
        folder: RemoteFolder | None = None,
        root: PurePath | None = None,
    ) -> None:
        self.paths = tuple(paths)
        self._root = root
        self._folder = folder
        self.schemas: list[Any] = []
        self._footers: list[Any] = []
        self._groups: list[tuple[int, int]] = []
        self._firsts: list[int] = []
        counts: list[int] = []
        for number, path in enumerate(self.paths):
            schema, footer = self._opened(path)
            self.schemas.append(schema)
            self._footers.append(footer)
            self._firsts.append(sum(counts))
            for group in range(footer.num_row_groups):
                self._groups.append((number, group))
                counts.append(footer.row_group(group).num_rows)
        self._starts = [0, *accumulate(counts)]
        self.rows = self._starts[-1]
        self._cache_bytes = cache_bytes
        self._cache: dict[tuple[int, tuple[str, ...]], Any] = {}
        self._texts: dict[str, Any] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_cache": {}, "_texts": {}}

    def value(self, row: int, column: str, together: tuple[str, ...]) -> Any:
        """One value, as a Python object; None where there is none.

        Args:
            row: counted through all files.
            column: its name; ``struct.field`` for a field of a struct.
            together: the columns to read at once, `column` among them.

        Raises:
            DataError: the row group is damaged.
        """
        group = bisect_right(self._starts, row) - 1
        return self._group(group, together).column(column)[row - self._starts[group]].as_py()

    def column(self, name: str) -> Any:
        """A whole column as `pyarrow.ChunkedArray`; the others are not read.

        Raises:
            DataError: a row group is damaged.
        """
        groups = range(len(self._groups))
        parts = [self._read(group, (name,)).column(name) for group in groups]
        chunks = [chunk for part in parts for chunk in part.chunks]
        return arrow().chunked_array(chunks, type=None if chunks else arrow().int64())

    def values(self, name: str) -> list[Any]:
        """A whole column as Python objects.

        Raises:
            DataError: a row group is damaged.
        """
        return self.column(name).to_pylist()

    def text(self, row: int, column: str) -> str | None:
        """One value as a text; the whole column is kept.

        Raises:
            DataError: a row group is damaged.
        """
        if column not in self._texts:
            texts = self.column(column).cast(arrow().string())
            self._texts[column] = texts.combine_chunks()
        return self._texts[column][row].as_py()

    def uri(self, path: PurePath) -> str:
        """Absolute path or URL of one of the files."""
        return os.path.abspath(path) if self._folder is None else f"{self._folder.url}{path}"

    def name(self, path: PurePath) -> str:
        """What one of the files is called: its name, below folders of partitions its path."""
        return path.name if self._root is None else path.relative_to(self._root).as_posix()

    def partitions(self, path: PurePath) -> dict[str, str]:
        """Of one of the files, what the names of its folders say, as ``label=cat`` does."""
        parts = self.name(path).split("/")[:-1]
        pairs = [part.partition("=") for part in parts if "=" in part]
        return {key: unquote(value) for key, _, value in pairs}

    def partition(self, path: PurePath, key: str) -> str | None:
        """One of `partitions`; None where that is empty, as Hive writes it."""
        value = self.partitions(path).get(key)
        return None if value == "__HIVE_DEFAULT_PARTITION__" else value

    def place(self, row: int) -> tuple[PurePath, int]:
        """The file that holds a row, and the row's number in it."""
        number = self._groups[bisect_right(self._starts, row) - 1][0]
        return self.paths[number], row - self._firsts[number]

    def _group(self, group: int, columns: tuple[str, ...]) -> Any:
        # Taken out and put back, so that the dictionary's order is that of use.
        table = self._cache.pop((group, columns), None)
        if table is None:
            table = self._read(group, columns)
            size = table.nbytes + sum(kept.nbytes for kept in self._cache.values())
            for oldest in list(self._cache):
                if size <= self._cache_bytes:
                    break
                size -= self._cache.pop(oldest).nbytes
        self._cache[(group, columns)] = table
        return table

    def _read(self, group: int, columns: tuple[str, ...]) -> Any:
        number, inside = self._groups[group]
        path = self.paths[number]
        try:
            with self._file(
                path, metadata=self._footers[number], page_checksum_verification=True
            ) as file:
                table = file.read_row_group(inside, columns=list(columns), use_threads=False)
                return table.flatten()
        except (arrow().ArrowException, OSError) as error:
            raise DataError(
                f"row group {inside} of {str(path)!r} cannot be read: {_first_line(error)}; "
                "expected a sound Parquet file. Copy it again."
            ) from error

    @contextmanager
    def _file(self, path: PurePath, **options: Any) -> Iterator[Any]:
        """A `pyarrow.parquet.ParquetFile`, open."""
        with ExitStack() as stack:
            source: Any = str(path)
            remote = None if self._folder is None else self._folder.filesystem()
            if remote is None and not source.isprintable():
                # What takes a path takes text, which a name that is not UTF-8 is not.
                source = stack.enter_context(arrow().OSFile(os.fsencode(path)))
            file = parquet().ParquetFile(source, filesystem=remote, pre_buffer=False, **options)
            yield stack.enter_context(file)

    def _opened(self, path: PurePath) -> tuple[Any, Any]:
        """Schema and footer."""
        try:
            with self._file(path) as file:
                return file.schema_arrow, file.metadata
        except (arrow().ArrowException, OSError) as error:
            raise DataError(
                f"{str(path)!r} cannot be read as Parquet: {_first_line(error)}; expected a sound "
                "Parquet file. Copy it again."
            ) from error


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")


def open_tables(source: str, *, cache_bytes: int) -> Tables:
    """A Parquet file, or all ``.parquet`` files of a folder in the order of their names.

    Args:
        source: path or URL of a file or folder. Of subfolders only those of partitions are
            searched, such as ``label=cat``, and only where no such file lies in the folder itself.
        cache_bytes: as for `Tables`.

    Raises:
        DataError: there is none, a numbered one (``…-00003-of-00005``) is missing, the names say
            that they are different splits of a data set, or one is damaged.
    """
    path = local_path(source)
    if path is None:
        return _remote_tables(source, cache_bytes)
    if path.is_file():
        return Tables([path], cache_bytes=cache_bytes)
    if not path.is_dir():
        raise DataError(f"no Parquet file or folder {source!r}; expected one that exists.")
    entries = [entry.name for entry in path.iterdir()]
    if is_partitioned(entries):
        below = [found.relative_to(path).as_posix() for found in path.rglob("*") if found.is_file()]
        names = _partition_names(source, below)
        return Tables([path / name for name in names], cache_bytes=cache_bytes, root=path)
    names = _shard_names(source, entries)
    return Tables([path / name for name in names], cache_bytes=cache_bytes)


def _remote_tables(url: str, cache_bytes: int) -> Tables:
    with reaching(url) as (files, path):
        names = [path.rstrip("/").rpartition("/")[2]]
        folder = RemoteFolder(parent_folder(url))
        if files.isdir(path):
            folder = RemoteFolder(absolute_folder(url))
            entries = [PurePosixPath(entry["name"]).name for entry in files.ls(path, detail=True)]
            if is_partitioned(entries):
                root = path.rstrip("/")
                below = [str(f).removeprefix(root).lstrip("/") for f in files.find(root)]
                paths = [PurePosixPath(name) for name in _partition_names(url, below)]
                top = PurePosixPath()
                return Tables(paths, cache_bytes=cache_bytes, folder=folder, root=top)
            names = _shard_names(url, entries)
        paths = [PurePosixPath(name) for name in names]
        return Tables(paths, cache_bytes=cache_bytes, folder=folder)


def _shard_names(source: str, names: Iterable[str]) -> list[str]:
    """The ``.parquet`` files among the names in a folder, sorted."""
    shards = sorted(name for name in names if is_parquet_name(name))
    if not shards:
        raise DataError(f"no .parquet file in {source!r}; expected at least one.")
    _check_splits(source, shards)
    _check_complete(source, shards)
    return shards


def is_partitioned(names: Iterable[str]) -> bool:
    """Whether a folder with such entries has partitions, such as ``label=cat``, and no file."""
    entries = list(names)
    return any("=" in name for name in entries) and not any(map(is_parquet_name, entries))


def _partition_names(source: str, paths: Iterable[str]) -> list[str]:
    """The ``.parquet`` files among the paths of files below a folder, sorted."""
    found = sorted(path for path in paths if is_parquet_name(path.rpartition("/")[2]))
    found = [path for path in found if not any(p.startswith((".", "_")) for p in path.split("/"))]
    if not found:
        raise DataError(f"no .parquet file in {source!r}; expected at least one.")
    splits = {part for path in found for part in path.split("/") if part.startswith("split=")}
    if len(splits) > 1:
        raise DataError(
            f"{source!r} holds the splits {', '.join(sorted(splits))}; expected the files of one. "
            "Name the folder of one."
        )
    return found


def is_parquet_name(name: str) -> bool:
    """Whether a file is taken for Parquet, by its name."""
    return name.lower().endswith(".parquet") and not name.startswith(".")


def _check_splits(source: str, names: list[str]) -> None:
    first = {re.split(r"[-_.]", name.lower(), maxsplit=1)[0] for name in names}
    splits = sorted(first.intersection(_SPLITS))
    if len(splits) > 1:
        raise DataError(
            f"{source!r} holds the splits {', '.join(splits)}; expected the files of one. "
            "Name a file, or put each split in a folder of its own."
        )


def _check_complete(source: str, names: list[str]) -> None:
    numbered: dict[tuple[str, int], set[int]] = {}
    for name in names:
        match = _NUMBERED.fullmatch(Path(name).stem)
        if match:
            key = match["stem"], int(match["count"])
            numbered.setdefault(key, set()).add(int(match["number"]))
    for (stem, count), numbers in numbered.items():
        missing = sorted(set(range(count)) - numbers)
        if missing:
            listed = ", ".join(f"{number:05d}" for number in missing[:5])
            raise DataError(
                f"{len(missing)} of {count} shards of {stem!r} are missing in {source!r} "
                f"({listed}{', …' if len(missing) > 5 else ''}); expected all of them."
            )
