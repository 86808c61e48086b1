"""Every image of a listing scored, shard by shard, so that a job cut short goes on where it was."""

import math
import time
from collections import Counter
from collections.abc import Callable, Generator, Mapping
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor
from tqdm import tqdm

from gradood.batch.columns import Columns, Judge
from gradood.batch.decoding import decoded
from gradood.batch.forward import Forward
from gradood.batch.items import Chunk, Items
from gradood.batch.listing import Listing
from gradood.batch.settings import Identity, Settings, description
from gradood.batch.store import Store, open_store
from gradood.errors import DataError

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["Summary", "score_images"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """How a job ended.

    Attributes:
        out: its folder.
        source: the input, as the user named it.
        rows: of the input.
        finished: rows in finished shards.
        complete: whether these are all.
        stopped: why they are not, if that was a decision.
        unscored: finished rows that could not be scored.
        statuses: how many finished rows have each status.
        flagged: how many scored rows each detector calls OOD; ``decision`` is that of all together.
        shards: finished ones.
        resumed: those of them that were there before this run.
        seconds: of this run.
    """

    out: str
    source: str
    rows: int
    finished: int
    complete: bool
    stopped: str | None
    unscored: int
    statuses: Mapping[str, int]
    flagged: Mapping[str, int]
    shards: int
    resumed: int
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def score_images(
    monitor: Judge,
    listing: Listing,
    out: Path,
    *,
    preprocess: Callable[["Image"], Tensor],
    identity: Identity,
    settings: Settings | None = None,
) -> Summary:
    """Score every row of a listing into Parquet shards.

    Every row of the listing is one row of the result, in the same order. One that cannot be decoded
    or scored has a status and a reason, and is out-of-distribution with score +inf; one that can,
    though not all of its file reached the model (CMYK, 16 bits, several frames), has a status, a
    reason, and its score.

    Shards that are finished are kept whatever happens: an error, Ctrl-C, kill −9. The same job on
    the same folder then goes on, and makes the same bytes as if it had never stopped, given the
    same number of threads. (Where the memory of the device ran out, batches are cut smaller from
    there on, and scores may differ in the last bits.)

    Args:
        monitor: calibrated.
        listing: what to score.
        out: folder for the results; new, empty, or of the same job.
        preprocess: from an image to the model's input. Runs in other processes.
        identity: what else the scores depend on.
        settings: None for the defaults.

    Returns:
        How it ended. If too many rows were bad, `stopped` says so.

    Raises:
        ConfigError: another job's results are in `out`, or other files.
        DataError: its records are damaged.
        NotFittedError: the monitor is not calibrated.
        OSError: `out` cannot be written; or processes that decode die of no row in particular.

    Cost:
        One look at each image. Memory: a few batches per process, one shard of scores, the names of
        all images.
    """
    settings = Settings() if settings is None else settings
    began = time.monotonic()
    items = Items(listing, preprocess, max_pixels=settings.max_pixels)
    job = description(monitor, listing, identity, settings)
    shards = math.ceil(len(listing) / settings.shard_rows)
    with open_store(Path(out), job, shards=shards) as store:
        resumed = len(store.done)
        stopped = _too_many(store, len(listing), settings)
        if stopped is None:
            with closing(_scored(monitor, items, store, settings)) as stream:
                for shard, columns, batch in stream:
                    table = columns.table(listing, identity.artifact)
                    store.commit(shard, table, {**columns.counts(), "batch": batch})
                    stopped = _too_many(store, len(listing), settings)
                    if stopped is not None:
                        break
        summary = _summary(store, listing, stopped, resumed, time.monotonic() - began)
        store.summarize(summary.to_dict())
    return summary


def _scored(
    monitor: Judge, items: Items, store: Store, settings: Settings
) -> Generator[tuple[int, Columns, int]]:
    """The shards that are missing, one after another, and how many images went at once."""
    total, size, batch = len(items), settings.shard_rows, settings.batch_size
    missing = [shard for shard in range(math.ceil(total / size)) if shard not in store.done]
    cut = [_cut(range(s * size, min((s + 1) * size, total)), batch) for s in missing]
    every = [rows for ranges in cut for rows in ranges]
    # A memory that was too small before is too small again: batches stay as they were.
    limit = min([batch, *(entry.get("batch", batch) for entry in store.done.values())])
    forward = Forward(monitor, limit)
    # For tqdm, None means: not where there is no terminal.
    hidden = None if settings.progress is None else not settings.progress
    before = total - sum(map(len, every))
    with (
        closing(decoded(items, every, workers=settings.workers)) as stream,
        tqdm(total=total, initial=before, desc="score", unit="image", disable=hidden) as bar,
    ):
        for shard, ranges in zip(missing, cut, strict=True):
            columns = Columns(range(ranges[0].start, ranges[-1].stop), monitor)
            for _ in ranges:
                chunk = next(stream)
                _judge(forward, chunk, columns)
                bar.update(chunk.rows)
            yield shard, columns, forward.limit


def _cut(rows: range, batch: int) -> list[range]:
    """The rows of a shard in batches. Those of a batch are always the same."""
    return [range(at, min(at + batch, rows.stop)) for at in range(rows.start, rows.stop, batch)]


def _judge(forward: Forward, chunk: Chunk, columns: Columns) -> None:
    for note in chunk.notes:
        columns.note(note)
    for rows, x in chunk.groups:
        done = 0
        try:
            for count, answer in forward(x):
                columns.fill(rows[done : done + count], answer)
                done += count
        except DataError as error:
            columns.refuse(rows[done:], "not_scored", f"the model cannot take it: {error}")


def _too_many(store: Store, total: int, settings: Settings) -> str | None:
    """Why to stop, once it is certain that too many of all rows are bad and there are more."""
    finished = sum(entry["rows"] for entry in store.done.values())
    bad = sum(entry["unscored"] for entry in store.done.values())
    if bad <= settings.max_bad_fraction * total or finished == total:
        return None
    return (
        f"{bad} of the first {finished} rows could not be scored, more than "
        f"{settings.max_bad_fraction:g} of all {total}"
    )


def _summary(
    store: Store, listing: Listing, stopped: str | None, resumed: int, seconds: float
) -> Summary:
    statuses: Counter[str] = Counter()
    flagged: Counter[str] = Counter()
    for entry in store.done.values():
        statuses.update(entry["statuses"])
        flagged.update(entry["flagged"])
    finished = sum(entry["rows"] for entry in store.done.values())
    return Summary(
        out=str(store.folder),
        source=listing.source,
        rows=len(listing),
        finished=finished,
        complete=finished == len(listing),
        stopped=stopped,
        unscored=sum(entry["unscored"] for entry in store.done.values()),
        statuses=dict(sorted(statuses.items())),
        flagged=dict(flagged),
        shards=len(store.done),
        resumed=resumed,
        seconds=round(seconds, 3),
    )
