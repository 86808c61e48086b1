"""A folder of finished shards: each whole or absent, each said to be there only once it is.

- ``_job.json``: what the job is made of. Another job does not write here.
- ``scores-00000-of-00010.parquet``: a shard. Renamed into place when it is on the disk. Of later
  runs on an input that has changed: ``scores-00000-of-00002-update-00001.parquet``.
- ``_manifest.jsonl``: a line for each finished shard, written after it; of a file with several
  lines, the last one that fits holds.
- ``_removed``: rows of images that were changed or are gone, taken out of shards.
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
from gradood.batch._job_record import check_same, read_job
from gradood.data._extras import parquet
from gradood.errors import ConfigError, DataError

__all__ = ["Store", "encoded", "open_store"]

_LOG = logging.getLogger(__name__)
# Programs that read a folder of Parquet pass over names that begin so.
_JOB, _MANIFEST, _SUMMARY = "_job.json", "_manifest.jsonl", "_summary.json"
_SHARD = re.compile(r"scores-\d{5,}-of-\d{5,}(-update-\d{5,})?\.parquet")
_REMOVED = "_removed"


@final
class Store:
    """The folder of one job, opened by `open_store`.

    Attributes:
        folder: where it is.
        update: number of the run on a changed input, 0 for the first.
        shards: how many that will have.
        done: manifest line of each of its finished shards, by their number.
        earlier: those of the shards of runs before it.
        begun_on: the input of that run, from ``_job.json``; None for a new job.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.update = 0
        self.shards = 0
        self.done: dict[int, dict[str, Any]] = {}
        self.earlier: list[dict[str, Any]] = []
        self.begun_on: Mapping[str, Any] | None = None

    @property
    def entries(self) -> list[dict[str, Any]]:
        """Manifest lines of all finished shards."""
        return [*self.earlier, *self.done.values()]

    def file(self, shard: int) -> Path:
        """Where a shard of this run is, or will be."""
        update = f"-update-{self.update:05d}" if self.update else ""
        return self.folder / f"scores-{shard:05d}-of-{self.shards:05d}{update}.parquet"

    def begin(self, job: Mapping[str, Any], update: int) -> None:
        """Begin a run on a changed input: what was finished before is of earlier runs.

        Args:
            job: what it is made of.
            update: its number.

        Raises:
            OSError: it cannot be written.
        """
        with self._full():
            _write(self.folder / _JOB, {**job, "update": update})
        self.earlier, self.done, self.update = self.entries, {}, update

    def rewrite(
        self, entry: dict[str, Any], kept: Any, removed: Any, counts: Mapping[str, Any]
    ) -> None:
        """Take rows out of a shard of an earlier run; killed at any time, all or none are out.

        Args:
            entry: its manifest line, which is brought up to date.
            kept: `pyarrow.Table` of the rows that stay.
            removed: of the others, which are kept aside.
            counts: of the rows that stay.

        Raises:
            OSError: it cannot be written.
        """
        name = str(entry["file"])
        aside = self.folder / _REMOVED / f"{self.update:05d}-{name}"
        content, gone = encoded(kept), encoded(removed)
        digest = hashlib.sha256(content).hexdigest()
        entry.setdefault("written_as", entry["sha256"])  # By which whoever read it knows it.
        entry |= {"bytes": len(content), "sha256": digest, **counts}
        with self._full():
            aside.parent.mkdir(exist_ok=True)
            replace(aside, [gone], _same(hashlib.sha256(gone).hexdigest()))
            # The line first: until the file is replaced, the line before still fits it.
            self._append(entry)
            replace(self.folder / name, [content], _same(digest))

    def commit(self, shard: int, content: bytes, counts: Mapping[str, Any]) -> None:
        """Write a shard, then its line of the manifest.

        Args:
            shard: its number.
            content: its Parquet file, from `encoded`.
            counts: of its rows, plain values.

        Raises:
            OSError: the disk is full, or cannot be written; nothing of the shard remains.
        """
        file = self.file(shard)
        digest = hashlib.sha256(content).hexdigest()
        line = {"shard": shard, "file": file.name, "bytes": len(content), "sha256": digest}
        line |= {"update": self.update} if self.update else {}
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
        lines: dict[str, list[dict[str, Any]]] = {}
        for number, line in enumerate(whole.splitlines(), start=1):
            try:
                entry = json.loads(line)
                entry["shard"] = int(entry["shard"])
                lines.setdefault(str(entry["file"]), []).append(entry)
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise DataError(
                    f"line {number} of {str(path)!r} cannot be read: {error}; expected what "
                    "gradood wrote. Name another folder, or delete this one."
                ) from error
        found = [self._intact(name, entries) for name, entries in lines.items()]
        kept = [entry for entry in found if entry is not None]
        lost = len(found) - len(kept)
        kept.sort(key=lambda entry: (entry.get("update", 0), entry["shard"]))
        self.earlier = [entry for entry in kept if entry.get("update", 0) != self.update]
        own = [entry for entry in kept if entry.get("update", 0) == self.update]
        self.done = {entry["shard"]: entry for entry in own}
        if lost or len(whole) < len(content) or len(self.entries) < whole.count(b"\n"):
            text = "".join(map(_line, self.entries)).encode("ascii")
            replace(path, [text], _same(hashlib.sha256(text).hexdigest()))
        self._remove_strays()
        if lost:
            _LOG.warning(
                "%d finished shards in %r are missing or damaged, and are made again",
                lost,
                str(self.folder),
            )

    def _remove_strays(self) -> None:
        """Remove shards of no line: whoever reads the folder would take them for finished."""
        known = {entry["file"] for entry in self.entries}
        for name in os.listdir(self.folder):
            if _SHARD.fullmatch(name) and name not in known:
                (self.folder / name).unlink()

    def _intact(self, name: str, lines: list[dict[str, Any]]) -> dict[str, Any] | None:
        """The last of a file's lines that fits it; None if none does."""
        if not _SHARD.fullmatch(name):
            return None
        try:
            with (self.folder / name).open("rb") as stream:
                digest = hashlib.file_digest(stream, "sha256").hexdigest()
        except OSError:
            return None
        return next((line for line in reversed(lines) if line.get("sha256") == digest), None)

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
def open_store(folder: Path, job: Mapping[str, Any]) -> Iterator[Store]:
    """The folder of a job, new or begun before, held against other processes.

    Args:
        folder: made if it does not exist.
        job: what the job is made of, plain values in plain groups. ``input`` may be another than
            before, but for its ``place``.

    Raises:
        ConfigError: another job's results are there, or other files, or a job is at work on it.
        DataError: its manifest is damaged.
        OSError: it cannot be made or written.
    """
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"{str(folder)!r} is a file; results take a folder: name another one.")
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / _JOB
    # Hidden files are ours, from a start that was cut short, or the system's.
    if not path.exists() and any(not entry.startswith(".") for entry in os.listdir(folder)):
        raise ConfigError(
            f"{str(folder)!r} holds files, but no job of gradood's; name a new or empty folder."
        )
    with exclusive(folder):
        manifest, store = folder / _MANIFEST, Store(folder)
        if path.exists() and manifest.exists() and manifest.stat().st_size:
            before = read_job(path)
            check_same(folder, before, job)
            store.begun_on, store.update = before["input"], before.get("update", 0)
        else:
            _write(path, job)
        store.load()
        yield store


def encoded(table: Any) -> bytes:
    """A Parquet file; the same rows become the same bytes."""
    stream = BytesIO()
    parquet().write_table(table, stream, compression="zstd", use_dictionary=True)
    return stream.getvalue()


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
