"""A scoring job on its folder: what is left to score, and what is kept of it."""

import math
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, final

import torch

from gradood import __version__
from gradood.batch._folders import result_folder
from gradood.batch._settings import Settings
from gradood.batch._store import Store, open_store
from gradood.batch._summary import Summary, summary_of
from gradood.batch._update import Update, coded, contents_digest, updated
from gradood.batch.predictor import Identity, Predictor, promises_per_class
from gradood.data._extras import pillow
from gradood.data.image_source import ImageSource
from gradood.data.row_source import RowSource

__all__ = ["OpenJob", "open_job"]

_FORMAT = 2


@final
@dataclass(eq=False, slots=True, kw_only=True)
class OpenJob:
    """A job whose folder is held against other processes; made by `open_job`.

    Attributes:
        listing: all rows of the input.
        identity: what the scores depend on besides them.
        settings: how it runs.
        store: its folder.
        update: what this run has to do.
        codes: id of each row of the input → what tells whether its content was changed.
        resumed: shards that were finished before.
        began: `time.monotonic` at its begin.
        finished: rows in finished shards.
        unscored: of these, that could not be scored.
    """

    listing: RowSource
    identity: Identity
    settings: Settings
    store: Store
    update: Update
    codes: Mapping[str, str]
    resumed: int
    began: float
    finished: int = field(init=False)
    unscored: int = field(init=False)

    def __post_init__(self) -> None:
        entries = self.store.entries
        self.finished = sum(entry["rows"] for entry in entries)
        self.unscored = sum(entry["unscored"] for entry in entries)

    @property
    def source(self) -> RowSource:
        """The rows that the shards of this run are cut from."""
        return self.update.source

    @property
    def missing(self) -> dict[int, range]:
        """Shards that are not finished, by number: rows of `source`."""
        shards = range(math.ceil(len(self.source) / self.settings.shard_rows))
        return {shard: self._rows(shard) for shard in shards if shard not in self.store.done}

    @property
    def batch(self) -> int:
        """Images at once: a memory that was too small before is too small again."""
        most = self.settings.batch_size
        return min([most, *(entry.get("batch", most) for entry in self.store.done.values())])

    @property
    def stopped(self) -> str | None:
        """Why to stop, once it is certain that too many of all rows are bad and there are more."""
        total = len(self.listing)
        bad, finished = self.unscored, self.finished
        if bad <= self.settings.max_bad_fraction * total or finished == total:
            return None
        return (
            f"{bad} of the first {finished} rows could not be scored, more than "
            f"{self.settings.max_bad_fraction:g} of all {total}"
        )

    def keep(
        self, shard: int, content: bytes, counts: Mapping[str, Any], notes: Mapping[str, Any]
    ) -> None:
        """Keep a finished shard.

        Args:
            shard: its number.
            content: its Parquet file.
            counts: of its rows, from `counts_of`.
            notes: what else its line of the manifest says, such as how many images went at once.

        Raises:
            OSError: the disk is full, or cannot be written; nothing of the shard remains.
        """
        stamps = "".join(self.codes[self.source.id(row)] for row in self._rows(shard))
        self.store.commit(shard, content, {**counts, **notes, "stamps": stamps})
        self.finished += counts["rows"]
        self.unscored += counts["unscored"]

    def end(self) -> Summary:
        """Note how the job ended."""
        seconds = time.monotonic() - self.began
        summary = summary_of(
            self.store, self.listing, self.update, self.stopped, self.resumed, seconds
        )
        self.store.summarize(summary.to_dict())
        return summary

    def _rows(self, shard: int) -> range:
        size = self.settings.shard_rows
        return range(shard * size, min((shard + 1) * size, len(self.source)))


@contextmanager
def open_job(
    monitor: Predictor, listing: RowSource, out: str | Path, identity: Identity, settings: Settings
) -> Iterator[OpenJob]:
    """A job, new or begun before; see `gradood.batch.score_images`.

    Args:
        monitor: what scores.
        listing: what to score.
        out: folder of the results.
        identity: what else the scores depend on.
        settings: of the job.

    Raises:
        ConfigError: another job's results are in `out`, or other files.
        DataError: its records are damaged.
        OSError: `out` cannot be written.
    """
    began = time.monotonic()
    codes = coded(listing.stamps())  # Before any image is read, so that no change is missed.
    job = _description(monitor, listing, contents_digest(codes), identity, settings)
    with open_store(result_folder(out), job) as store:
        code_of = dict(zip(map(listing.id, range(len(listing))), codes, strict=True))
        update = updated(store, listing, code_of, job, settings.shard_rows)
        yield OpenJob(
            listing=listing,
            identity=identity,
            settings=settings,
            store=store,
            update=update,
            codes=code_of,
            resumed=len(store.entries),
            began=began,
        )


def _description(
    monitor: Predictor, source: RowSource, contents: str, identity: Identity, settings: Settings
) -> dict[str, Any]:
    """Everything that the results of a job depend on, as plain values in plain groups.

    Args:
        monitor: what scores.
        source: what is scored.
        contents: digest of what tells whether its files were changed.
        identity: of detector and model.
        settings: those that change no score are left out.

    Cost: a hash over all names.
    """
    return {
        "format": _FORMAT,
        **asdict(identity),
        "input": {
            "place": source.place,
            "rows": len(source),
            "names": source.digest(),
            "contents": contents,
        },
        "detectors": list(monitor.detectors),
        "combine": monitor.combine,
        **({"per_class": True} if promises_per_class(monitor) else {}),
        "overrides": list(monitor.overrides),
        "batch_size": settings.batch_size,
        "shard_rows": settings.shard_rows,
        "max_pixels": settings.max_pixels,
        "versions": {
            "gradood": __version__,
            "torch": torch.__version__,
            **({"pillow": pillow().__version__} if isinstance(source, ImageSource) else {}),
        },
    }
