"""A folder of finished shards: each whole or absent, each said to be there only once it is.

- ``_job.json``: what the job is made of. Another job does not write here.
- ``scores-00000-of-00010.parquet``: a shard. Renamed into place when it is on the disk. Of later
  runs on an input that has changed: ``scores-00000-of-00002-update-00001.parquet``.
- ``_manifest.jsonl``: a line for each finished shard, written after it; of a file with several
  lines, the last one that fits holds.
- ``_removed``: rows of images that were changed or are gone, taken out of shards.
- ``_summary.json``: the whole, when it is finished or was stopped.
"""

import hashlib
import json
import logging
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any, final

from gradood.batch._folders import LocalFolder, ResultFolder
from gradood.batch._job_record import check_same, job_in
from gradood.data._extras import parquet
from gradood.errors import DataError

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

    def __init__(self, folder: ResultFolder | Path) -> None:
        self.folder = LocalFolder(folder) if isinstance(folder, Path) else folder
        self.update = 0
        self.shards = 0
        self.done: dict[int, dict[str, Any]] = {}
        self.earlier: list[dict[str, Any]] = []
        self.begun_on: Mapping[str, Any] | None = None

    @property
    def entries(self) -> list[dict[str, Any]]:
        """Manifest lines of all finished shards."""
        return [*self.earlier, *self.done.values()]

    def file(self, shard: int) -> str:
        """Name of a shard of this run."""
        update = f"-update-{self.update:05d}" if self.update else ""
        return f"scores-{shard:05d}-of-{self.shards:05d}{update}.parquet"

    def begin(self, job: Mapping[str, Any], update: int) -> None:
        """Begin a run on a changed input: what was finished before is of earlier runs.

        Args:
            job: what it is made of.
            update: its number.

        Raises:
            OSError: it cannot be written.
        """
        with self._full():
            self._write(_JOB, {**job, "update": update})
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
        aside = f"{_REMOVED}/{self.update:05d}-{name}"
        content, gone = encoded(kept), encoded(removed)
        digest = hashlib.sha256(content).hexdigest()
        entry.setdefault("written_as", entry["sha256"])  # By which whoever read it knows it.
        entry |= {"bytes": len(content), "sha256": digest, **counts}
        with self._full():
            self.folder.write(aside, gone)
            # The line first: until the file is replaced, the line before still fits it.
            self._append(entry)
            self.folder.write(name, content)

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
        line = {"shard": shard, "file": file, "bytes": len(content), "sha256": digest}
        line |= {"update": self.update} if self.update else {}
        with self._full():
            self.folder.write(file, content)
            self._append({**line, **counts})
        self.done[shard] = {**line, **counts}

    def summarize(self, summary: Mapping[str, Any]) -> None:
        """Write the summary.

        Raises:
            OSError: it cannot be written.
        """
        with self._full():
            self._write(_SUMMARY, summary)

    def load(self) -> None:
        """Read the manifest; shards that are not as it says are forgotten.

        Raises:
            DataError: the manifest is no such file.
        """
        content = self.folder.lines(_MANIFEST)
        whole = content[: content.rfind(b"\n") + 1]
        lines: dict[str, list[dict[str, Any]]] = {}
        for number, line in enumerate(whole.splitlines(), start=1):
            try:
                entry = json.loads(line)
                entry["shard"] = int(entry["shard"])
                lines.setdefault(str(entry["file"]), []).append(entry)
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise DataError(
                    f"line {number} of '{self.folder}/{_MANIFEST}' cannot be read: {error}; "
                    "expected what gradood wrote. Name another folder, or delete this one."
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
            self.folder.rewrite_lines(_MANIFEST, text)
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
        for name in self.folder.names():
            if _SHARD.fullmatch(name) and name not in known:
                self.folder.remove(name)

    def _intact(self, name: str, lines: list[dict[str, Any]]) -> dict[str, Any] | None:
        """The last of a file's lines that fits it; None if none does."""
        if not _SHARD.fullmatch(name):
            return None
        digest = self.folder.digest(name)
        if digest is None:
            return None
        return next((line for line in reversed(lines) if line.get("sha256") == digest), None)

    def _append(self, entry: Mapping[str, Any]) -> None:
        self.folder.append(_MANIFEST, _line(entry).encode("ascii"))

    def _write(self, name: str, value: Mapping[str, Any]) -> None:
        self.folder.write(
            name, (json.dumps(value, indent=2, allow_nan=False) + "\n").encode("ascii")
        )

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
def open_store(folder: ResultFolder, job: Mapping[str, Any]) -> Iterator[Store]:
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
    with folder.held(_JOB):
        store, known = Store(folder), folder.read(_JOB)
        if known is not None and folder.lines(_MANIFEST):
            before = job_in(known, f"{folder}/{_JOB}")
            check_same(str(folder), before, job)
            store.begun_on, store.update = before["input"], before.get("update", 0)
        else:
            store._write(_JOB, job)
        store.load()
        yield store


def encoded(table: Any) -> bytes:
    """A Parquet file; the same rows become the same bytes."""
    stream = BytesIO()
    parquet().write_table(table, stream, compression="zstd", use_dictionary=True)
    return stream.getvalue()


def _line(entry: Mapping[str, Any]) -> str:
    return json.dumps(entry, allow_nan=False, separators=(",", ":")) + "\n"


def _why(error: OSError) -> str:
    return str(error) if error.errno is None else os.strerror(error.errno)
