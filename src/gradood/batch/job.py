"""Scoring of every image of a source, shard by shard; a job that was cut short goes on."""

from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

from gradood._engine.progress import progress_bar
from gradood.batch._columns import counts_of
from gradood.batch._decoding import decoder_of
from gradood.batch._open_job import OpenJob, open_job
from gradood.batch._settings import Settings
from gradood.batch._shard_scorer import ShardScorer
from gradood.batch._store import encoded
from gradood.batch._summary import Summary
from gradood.batch.predictor import Identity, Predictor
from gradood.data.row_source import RowSource

__all__ = ["Settings", "Summary", "score_images"]


def score_images(
    monitor: Predictor,
    listing: RowSource,
    out: str | Path,
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
        out: folder for the results, a path or a URL that fsspec writes to, such as
            ``s3://bucket/scores``; new, empty, or of the same job. Of a URL nothing keeps a
            second writer out.
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
    with open_job(monitor, listing, out, identity, settings) as job:
        decoder = decoder_of(job.source, preprocess, settings.max_pixels)
        _score_missing(job, ShardScorer(monitor, decoder, settings, job.batch))
        return job.end()


def _score_missing(job: OpenJob, scorer: ShardScorer) -> None:
    """Score and keep what is missing, until too many rows are bad."""
    missing, total = job.missing, len(job.source)
    before = total - sum(map(len, missing.values()))
    shown = job.settings.progress
    with (
        progress_bar(total, "score", "image", shown=shown, done=before) as bar,
        closing(scorer.scored(list(missing.values()), bar.update)) as shards,
    ):
        for shard in missing:
            if job.stopped is not None:
                return
            table = next(shards).table(job.source, job.identity.artifact)
            job.keep(shard, encoded(table), counts_of(table), {"batch": scorer.batch})
