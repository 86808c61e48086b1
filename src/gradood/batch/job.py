"""Scoring of every image of a source, shard by shard; a job that was cut short goes on."""

import math
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from gradood import __version__
from gradood._engine.progress import progress_bar
from gradood.batch._columns import Columns, counts_of
from gradood.batch._decoding import Chunk, RowDecoder, decoded, decoder_of
from gradood.batch._store import Store, open_store
from gradood.batch._summary import Summary, summary_of
from gradood.batch._update import coded, contents_digest, updated
from gradood.batch.predictor import Forward, Identity, Predictor
from gradood.data._batches import batch_part
from gradood.data._extras import pillow
from gradood.data._worker_pool import DECODE_TIMEOUT
from gradood.data.column_input import Row
from gradood.data.image_source import ImageSource
from gradood.data.row_source import RowSource
from gradood.errors import ConfigError, DataError

__all__ = ["Settings", "Summary", "score_images"]

_FORMAT = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How a job runs.

    Attributes:
        batch_size: images at once, at most.
        shard_rows: rows of a shard: what is lost if a job is killed.
        max_pixels: larger images are not decoded.
        max_bad_fraction: stop once more than this share of all rows could not be scored; looked
            at after each shard.
        workers: processes that decode; 0 decodes in this one.
        decode_timeout: seconds that reading and decoding one image may take where processes
            decode, or None; then it is a row with the status ``timed_out``.
        progress: show a bar; None does on a terminal only.

    Raises:
        ConfigError: a number is out of range.
    """

    batch_size: int = 64
    shard_rows: int = 2048
    max_pixels: int = 50_000_000
    max_bad_fraction: float = 0.05
    workers: int = 0
    decode_timeout: float | None = DECODE_TIMEOUT
    progress: bool | None = None

    def __post_init__(self) -> None:
        for name, low in (("batch_size", 1), ("shard_rows", 1), ("max_pixels", 1), ("workers", 0)):
            value = getattr(self, name)
            if type(value) is not int or value < low:
                raise ConfigError(f"{name} is {value!r}; expected a whole number, at least {low}.")
        if not 0 <= self.max_bad_fraction <= 1:
            raise ConfigError(f"max_bad_fraction is {self.max_bad_fraction!r}; expected 0 to 1.")
        if self.decode_timeout is not None and not self.decode_timeout > 0:
            raise ConfigError(
                f"decode_timeout is {self.decode_timeout!r}; expected seconds above 0, or None."
            )


def score_images(
    monitor: Predictor,
    listing: RowSource,
    out: Path,
    *,
    preprocess: Callable[[Any], Any],
    identity: Identity,
    settings: Settings | None = None,
) -> Summary:
    """Score every row of a source into Parquet shards.

    Every row of the source is one row of the result, in the same order. One that cannot be scored
    has a status and a reason, and is out-of-distribution with score +inf; one that can, though not
    all of its file reached the model (CMYK, 16 bits, several frames), has these and its score.

    Shards that are finished are kept whatever happens: an error, Ctrl-C, kill −9. The same job on
    the same folder then goes on, and makes the same bytes as if it had never stopped, given the
    same number of threads, unless the memory of the device ran out and batches were cut smaller.

    Where the input has changed since, what is new or changed is scored into further shards; rows
    of changed and gone images are taken out of those before (`gradood.batch._update`).

    Args:
        monitor: calibrated.
        listing: what to score, from `list_images` or `list_columns`.
        out: folder for the results; new, empty, or of the same job.
        preprocess: from an image to the model's input, or the `gradood.data.ColumnInput` of the
            rows of a table. Runs in other processes.
        identity: what else the scores depend on.
        settings: None for the defaults.

    Returns:
        How it ended. If too many rows were bad, `stopped` says so.

    Raises:
        ConfigError: another job's results are in `out`, or other files.
        DataError: its records are damaged.
        NotFittedError: the monitor is not calibrated.
        OSError: `out` cannot be written; or processes that decode die of no row in particular.

    Cost: one look at each image. Memory: a few batches per process, one shard of scores, all names.
    """
    settings = Settings() if settings is None else settings
    began = time.monotonic()
    codes = coded(listing.stamps())  # Before any image is read, so that no change is missed.
    job = _description(monitor, listing, contents_digest(codes), identity, settings)
    with open_store(Path(out), job) as store:
        code_of = dict(zip(map(listing.id, range(len(listing))), codes, strict=True))
        update = updated(store, listing, code_of, job, settings.shard_rows)
        resumed = len(store.entries)
        decoder = decoder_of(update.source, preprocess, settings.max_pixels)
        with closing(_scored(monitor, decoder, store, settings)) as shards:
            stopped = _kept(store, shards, code_of, identity.artifact, settings)
        summary = summary_of(store, listing, update, stopped, resumed, time.monotonic() - began)
        store.summarize(summary.to_dict())
    return summary


def _kept(
    store: Store,
    shards: Iterator[tuple[int, RowSource, Columns, int]],
    code_of: Mapping[str, str],
    artifact: str,
    settings: Settings,
) -> str | None:
    """Write shards as they come; why it stopped before the last, or None."""
    stopped = _too_many(store, len(code_of), settings)
    while stopped is None and (found := next(shards, None)) is not None:
        shard, source, columns, batch = found
        table = columns.table(source, artifact)
        stamps = "".join(map(code_of.__getitem__, table["id"].to_pylist()))
        store.commit(shard, table, {**counts_of(table), "batch": batch, "stamps": stamps})
        stopped = _too_many(store, len(code_of), settings)
    return stopped


def _scored(
    monitor: Predictor, decoder: RowDecoder, store: Store, settings: Settings
) -> Generator[tuple[int, RowSource, Columns, int]]:
    """The shards that are missing, one after another, and how many images went at once."""
    total, size, batch = len(decoder.source), settings.shard_rows, settings.batch_size
    missing = [shard for shard in range(math.ceil(total / size)) if shard not in store.done]
    cut = [_cut(range(s * size, min((s + 1) * size, total)), batch) for s in missing]
    every = [rows for ranges in cut for rows in ranges]
    # A memory that was too small before is too small again: batches stay as they were.
    limit = min([batch, *(entry.get("batch", batch) for entry in store.done.values())])
    forward = Forward(monitor, limit)
    before = total - sum(map(len, every))
    chunks = decoded(decoder, every, workers=settings.workers, timeout=settings.decode_timeout)
    with (
        closing(chunks),
        progress_bar(total, "score", "image", shown=settings.progress, done=before) as bar,
    ):
        for shard, ranges in zip(missing, cut, strict=True):
            columns = Columns(range(ranges[0].start, ranges[-1].stop), monitor)
            for _ in ranges:
                chunk = next(chunks)
                _score_chunk(forward, chunk, columns)
                bar.update(chunk.rows)
            yield shard, decoder.source, columns, forward.limit


def _cut(rows: range, batch: int) -> list[range]:
    """The rows of a shard in batches. Those of a batch are always the same."""
    return [range(at, min(at + batch, rows.stop)) for at in range(rows.start, rows.stop, batch)]


def _score_chunk(forward: Forward, chunk: Chunk, columns: Columns) -> None:
    for note in chunk.notes:
        columns.note(note)
    for rows, x in chunk.groups:
        _score_rows(forward, rows, x, columns)


def _score_rows(forward: Forward, rows: Sequence[int], x: Row, columns: Columns) -> None:
    """Score inputs of one size; of those on which the model raises, only these are refused."""
    done = 0
    try:
        for count, answer in forward(x):
            columns.fill(rows[done : done + count], answer)
            done += count
    except DataError as error:
        rest = rows[done:]
        if len(rest) == 1:
            columns.refuse(rest, "not_scored", f"the model cannot take it: {error}")
            return
        half = len(rest) // 2
        _score_rows(forward, rest[:half], batch_part(x, done, done + half), columns)
        _score_rows(forward, rest[half:], batch_part(x, done + half), columns)


def _too_many(store: Store, total: int, settings: Settings) -> str | None:
    """Why to stop, once it is certain that too many of all rows are bad and there are more."""
    finished = sum(entry["rows"] for entry in store.entries)
    bad = sum(entry["unscored"] for entry in store.entries)
    if bad <= settings.max_bad_fraction * total or finished == total:
        return None
    return (
        f"{bad} of the first {finished} rows could not be scored, more than "
        f"{settings.max_bad_fraction:g} of all {total}"
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
