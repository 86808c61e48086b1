"""A folder of finished shards: each whole or absent, each said to be there only once it is.

- ``_job.json``: what the job is made of. Another job does not write here.
- ``scores-00000-of-00010.parquet``: a shard. Renamed into place when it is on the disk.
- ``_manifest.jsonl``: a line for each finished shard, written after it.
- ``_summary.json``: the whole, when it is finished or was stopped.
"""

import errno
import hashlib
import json
import logging
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO, final

from gradood._io.atomic import replace
from gradood._io.lock import exclusive
from gradood.data._extras import parquet
from gradood.errors import ConfigError, DataError

__all__ = ["Store", "open_store"]

_LOG = logging.getLogger(__name__)
# Programs that read a folder of Parquet pass over names that begin so.
_JOB, _MANIFEST, _SUMMARY = "_job.json", "_manifest.jsonl", "_summary.json"
_SHARD = re.compile(r"scores-\d{5,}-of-\d{5,}\.parquet")


@final
class Store:
    """The folder of one job, opened by `open_store`.

    Attributes:
        folder: where it is.
        done: manifest line of each finished shard, by its number.
    """

    def __init__(self, folder: Path, shards: int) -> None:
        self.folder = folder
        self._shards = shards
        self.done: dict[int, dict[str, Any]] = {}

    def file(self, shard: int) -> Path:
        """Where a shard is, or will be."""
        return self.folder / f"scores-{shard:05d}-of-{self._shards:05d}.parquet"

    def commit(self, shard: int, table: Any, counts: Mapping[str, Any]) -> None:
        """Write a shard, then its line of the manifest.

        Args:
            shard: its number.
            table: its `pyarrow.Table`.
            counts: of its rows, plain values.

        Raises:
            OSError: the disk is full, or cannot be written; nothing of the shard remains.
        """
        stream = BytesIO()
        # The same rows become the same bytes.
        parquet().write_table(table, stream, compression="zstd", use_dictionary=True)
        content = stream.getvalue()
        file = self.file(shard)
        digest = hashlib.sha256(content).hexdigest()
        line = {"shard": shard, "file": file.name, "bytes": len(content), "sha256": digest}
        with self._full():
            replace(file, [content], _same(digest))
            self._append({**line, **counts})
        self.done[shard] = {**line, **counts}

    def summarize(self, summary: Mapping[str, Any]) -> None:
        """Write the summary.

        Raises:
            OSError: it cannot be written.
        """
        with self._full():
            _write(self.folder / _SUMMARY, summary)

    def load(self) -> None:
        """Read the manifest; shards that are not as it says are forgotten.

        Raises:
            DataError: the manifest is no such file.
        """
        path = self.folder / _MANIFEST
        content = path.read_bytes() if path.exists() else b""
        whole = content[: content.rfind(b"\n") + 1]
        found = {}
        for number, line in enumerate(whole.splitlines(), start=1):
            try:
                entry = json.loads(line)
                found[int(entry["shard"])] = entry
            except (ValueError, KeyError, TypeError) as error:
                raise DataError(
                    f"line {number} of {str(path)!r} cannot be read: {error}; expected what "
                    "gradood wrote. Name another folder, or delete this one."
                ) from error
        lost = [shard for shard, entry in found.items() if not self._intact(shard, entry)]
        self.done = {shard: found[shard] for shard in sorted(found) if shard not in lost}
        if lost or len(whole) < len(content) or len(self.done) < whole.count(b"\n"):
            lines = "".join(_line(entry) for entry in self.done.values()).encode("ascii")
            replace(path, [lines], _same(hashlib.sha256(lines).hexdigest()))
        self._remove_strays()
        if lost:
            _LOG.warning(
                "%d finished shards in %r are missing or damaged, and are made again",
                len(lost),
                str(self.folder),
            )

    def _remove_strays(self) -> None:
        """Remove shards of no line: whoever reads the folder would take them for finished."""
        known = {entry["file"] for entry in self.done.values()}
        for name in os.listdir(self.folder):
            if _SHARD.fullmatch(name) and name not in known:
                (self.folder / name).unlink()

    def _intact(self, shard: int, entry: Mapping[str, Any]) -> bool:
        try:
            with self.file(shard).open("rb") as stream:
                return hashlib.file_digest(stream, "sha256").hexdigest() == entry.get("sha256")
        except OSError:
            return False

    def _append(self, entry: Mapping[str, Any]) -> None:
        line = _line(entry).encode("ascii")
        with (self.folder / _MANIFEST).open("ab", buffering=0) as stream:
            before = os.fstat(stream.fileno()).st_size
            try:
                if stream.write(line) != len(line):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                os.fsync(stream.fileno())
            except OSError:
                with suppress(OSError):
                    os.ftruncate(stream.fileno(), before)
                raise

    @contextmanager
    def _full(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise OSError(
                f"{str(self.folder)!r} cannot be written: {_why(error)}. Finished shards are kept; "
                "make room, and run the same again to go on."
            ) from error


@contextmanager
def open_store(folder: Path, job: Mapping[str, Any], *, shards: int) -> Iterator[Store]:
    """The folder of a job, new or begun before, held against other processes.

    Args:
        folder: made if it does not exist.
        job: what the job is made of, plain values in plain groups.
        shards: how many there will be.

    Raises:
        ConfigError: another job's results are there, or other files, or a job is at work on it.
        DataError: its manifest is damaged.
        OSError: it cannot be made or written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / _JOB
    # Hidden files are ours, from a start that was cut short, or the system's.
    if not path.exists() and any(not entry.startswith(".") for entry in os.listdir(folder)):
        raise ConfigError(
            f"{str(folder)!r} holds files, but no job of gradood's; name a new or empty folder."
        )
    with exclusive(folder):
        manifest = folder / _MANIFEST
        if path.exists() and manifest.exists() and manifest.stat().st_size:
            _check_same(folder, _read(path), job)
        else:
            _write(path, job)
        store = Store(folder, shards)
        store.load()
        yield store


def _check_same(folder: Path, before: Any, now: Mapping[str, Any]) -> None:
    """Refuse to mix the results of two jobs."""
    if not isinstance(before, dict):
        before = {}
    old, new = _flat(before), _flat(now)
    differing = sorted(key for key in old.keys() | new.keys() if old.get(key) != new.get(key))
    if differing:
        shown = "; ".join(
            f"{key} was {_short(old.get(key))} and is {_short(new.get(key))}" for key in differing
        )
        raise ConfigError(
            f"{str(folder)!r} holds results of another job: {shown}. Run it as before to go on "
            "with it, or name another folder."
        )


def _flat(value: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, inner in value.items():
        if isinstance(inner, Mapping):
            found |= _flat(inner, f"{prefix}{key}.")
        else:
            found[prefix + key] = json.loads(json.dumps(inner))  # Tuples are lists when read back.
    return found


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:20]}…{text[-8:]}"


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise DataError(
            f"{str(path)!r} cannot be read: {error}; expected what gradood wrote. Name another "
            "folder, or delete this one."
        ) from error


def _write(path: Path, value: Mapping[str, Any]) -> None:
    content = (json.dumps(value, indent=2, allow_nan=False) + "\n").encode("ascii")
    replace(path, [content], _same(hashlib.sha256(content).hexdigest()))


def _line(entry: Mapping[str, Any]) -> str:
    return json.dumps(entry, allow_nan=False, separators=(",", ":")) + "\n"


def _why(error: OSError) -> str:
    return str(error) if error.errno is None else os.strerror(error.errno)


def _same(digest: str) -> Any:
    def verify(stream: BinaryIO) -> None:
        if hashlib.sha256(stream.read()).hexdigest() != digest:
            raise OSError(errno.EIO, "what was written is not what is read back")

    return verify
