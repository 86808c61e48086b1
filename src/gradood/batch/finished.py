"""Finished shards of a scoring job, read without a change while the job may still be running."""

import hashlib
import json
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from gradood._io.arguments import file_path
from gradood.batch._results_columns import results_of, scored_rows
from gradood.calibration.results import Results
from gradood.data._extras import table_of
from gradood.errors import DataError

__all__ = ["FinishedShard", "finished_shards", "first_reasons"]


@dataclass(frozen=True, eq=False, slots=True)
class FinishedShard:
    """A shard whose bytes are those of its line in the manifest.

    Attributes:
        name: of its file.
        sha256: of the file as it was first written: the same if rows were taken out since.
        table: a `pyarrow.Table`, as `gradood.batch.score_images` wrote it.
    """

    name: str
    sha256: str
    table: Any

    @property
    def artifacts(self) -> set[str]:
        """SHA-256 of the detector's file that its rows were scored with."""
        return set(self.table.column("artifact").to_pylist())

    @property
    def scored(self) -> np.ndarray[Any, np.dtype[np.bool_]]:
        """(rows,) whether each row was scored; those that could not be read were not."""
        return scored_rows(self.table, self.name)

    def results(self) -> Results:
        """What the monitor said of the rows that were scored."""
        found = results_of(self.table.filter(self.scored))
        assert isinstance(found, Results)  # A shard names its detectors.
        return found

    def column(self, name: str) -> list[Any]:
        """A column of the rows that were scored.

        Raises:
            DataError: there is none of that name.
        """
        if name not in self.table.column_names:
            known = ", ".join(self.table.column_names)
            raise DataError(f"{self.name} has no column {name!r}; it has {known}.")
        return _listed(self.table.filter(self.scored), name)


def finished_shards(folder: Path) -> Iterator[FinishedShard]:
    """The finished shards of a job, in the order in which they were scored.

    Args:
        folder: of the results of `gradood.batch.score_images`.

    Raises:
        ConfigError: `folder` names none.
        DataError: it is none, or its manifest is damaged.
        ModuleNotFoundError: pyarrow is not installed.
    """
    folder = file_path(folder, "folder", "the folder that gradood score wrote, by --out")
    manifest = folder / "_manifest.jsonl"
    if not manifest.is_file():
        raise DataError(
            f"{str(folder)!r} holds no finished results; expected the folder that gradood score "
            "wrote, by --out."
        )
    content = manifest.read_bytes()
    last: dict[str, list[dict[str, Any]]] = {}
    for number, line in enumerate(content[: content.rfind(b"\n") + 1].splitlines(), start=1):
        try:
            entry = json.loads(line)
            entry["shard"] = int(entry["shard"])
            last.setdefault(Path(str(entry["file"])).name, []).append(entry)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise DataError(
                f"line {number} of {str(manifest)!r} cannot be read: {error}; expected what "
                "gradood wrote."
            ) from error
    ordered = sorted(
        last, key=lambda name: (last[name][-1].get("update", 0), last[name][-1]["shard"])
    )
    for name in ordered:
        shard = _read(folder / name, last[name])
        if shard is not None:
            yield shard


def first_reasons(folder: Path, statuses: Collection[str]) -> dict[str, str]:
    """Status → the first row that has it, and why, such as ``a/b.png: it is cut off``.

    Args:
        folder: of the results of `gradood.batch.score_images`.
        statuses: to look for. Shards are read until each was found.

    Raises:
        DataError: as `finished_shards`.
    """
    missing, found = set(statuses), dict[str, str]()
    shards = finished_shards(folder)
    while missing and (shard := next(shards, None)) is not None:
        columns = (_listed(shard.table, name) for name in ("id", "status", "error"))
        for identity, status, reason in zip(*columns, strict=True):
            if status in missing and reason:
                found[status] = f"{identity}: {reason}"
                missing.discard(status)
    return found


def _read(file: Path, lines: list[dict[str, Any]]) -> FinishedShard | None:
    """The shard, if one of its lines fits it; a shard that is being replaced fits none."""
    try:
        content = file.read_bytes()
    except OSError:
        return None
    digest = hashlib.sha256(content).hexdigest()
    for line in reversed(lines):
        if line.get("sha256") == digest:
            table = table_of(BytesIO(content))
            return FinishedShard(file.name, str(line.get("written_as", digest)), table)
    return None


def _listed(table: Any, name: str) -> list[Any]:
    return table.column(name).to_pylist()
