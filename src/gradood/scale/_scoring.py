"""Scoring spread over workers: each makes whole shards, and the driver alone keeps them."""

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, final

from gradood._engine.progress import progress_bar
from gradood._io.arguments import instance, type_named
from gradood.batch import (
    Identity,
    LoadedPredictor,
    Predictor,
    Settings,
    Summary,
)
from gradood.batch._columns import counts_of
from gradood.batch._decoding import decoder_of
from gradood.batch._open_job import OpenJob, open_job
from gradood.batch._shard_scorer import ShardScorer
from gradood.batch._store import encoded
from gradood.data._column_source import ColumnRows
from gradood.data.image_source import ImageSource
from gradood.data.row_source import RowSource
from gradood.errors import BadRowError, ConfigError, DataError
from gradood.scale._environment import host
from gradood.scale._pools import Place, pool_on
from gradood.scale._tasks import Task
from gradood.scale._worker import PoolOf, Runner, answered
from gradood.scale.devices import Devices
from gradood.scale.subject import Subject, check_subject

__all__ = [
    "PoolOf",
    "ScoreWork",
    "check_readable",
    "readable_rows",
    "score_images",
    "scored",
    "scored_on",
]


def score_images(
    subject: Subject,
    listing: RowSource,
    out: str | Path,
    *,
    preprocess: Callable[[Any], Any] | None = None,
    settings: Settings | None = None,
    cluster: Place | None = None,
) -> Summary:
    """Score every row of a source into Parquet shards, on a Ray cluster or devices of this machine.

    The same folder, files and bytes as of `gradood.batch.score_images` with as many threads; either
    goes on with a job of the other. A shard whose worker ended is scored again, elsewhere; at most
    one for each worker is lost.

    Args:
        subject: model and detector, by names that hold on every machine.
        listing: what to score, from `gradood.batch.list_images` or `list_columns`; its files are at
            the same paths, or behind the same URLs, on every machine.
        out: folder for the results, on this machine or behind a URL that fsspec writes to.
        preprocess: from an image to the model's input; None for what the detector was fitted with.
        settings: None for the defaults; processes that decode are of each worker.
        cluster: None for one that is started on this machine; `Devices` take no Ray, and go before
            the subject's device.

    Returns:
        How it ended. If too many rows were bad, `stopped` says so.

    Raises:
        ConfigError: another job's results are in `out`, or the subject cannot be opened.
        ModelMismatchError: model and detector do not belong together, here or on a worker.
        OSError: no cluster, no room in it, or a machine that lacks data or versions.
        ModuleNotFoundError: Ray is not installed.

    Cost: this process holds the model, all names, and a shard of results.
    """
    check_subject(subject)
    if not hasattr(listing, "id"):
        raise ConfigError(
            f"listing is {type_named(listing)}; expected gradood.batch.list_images(…) or "
            "list_columns(…)."
        )
    if settings is not None:
        instance(settings, Settings, "settings", "gradood.batch.Settings(…)")
    loaded, predictor = subject.opened()
    if preprocess is None:
        preprocess = loaded.preprocess_like(predictor.monitor.preprocess)
    plain: Any = preprocess
    device = cluster.kind if isinstance(cluster, Devices) else subject.device
    identity = predictor.identity(plain.to_dict(), device)
    work = ScoreWork.of(subject, predictor, preprocess, settings or Settings())
    return scored_on(cluster, work, predictor.monitor, listing, out, identity)


def scored_on(
    cluster: Place | None,
    work: "ScoreWork",
    monitor: Predictor,
    listing: RowSource,
    out: str | Path,
    identity: Identity,
) -> Summary:
    """The same, with the model opened before; see `scored`."""
    return scored(work, monitor, listing, out, identity, pool_on(cluster))


@final
@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class ScoreWork:
    """What workers need to score shards.

    Attributes:
        subject: model and detector.
        model: digest of the model's fingerprint.
        artifact: SHA-256 of the detector's file.
        preprocess: from an image to the model's input.
        settings: of the job.
        batch: images at once.
        source: the rows; None until the job is open.
        readable: some rows that the driver could read.
        pieces: shards that are missing; 1 until the job is open.
    """

    subject: Subject
    model: str
    artifact: str
    preprocess: Any
    settings: Settings
    batch: int = 1
    source: RowSource | None = None
    readable: tuple[int, ...] = ()
    pieces: int = 1

    @staticmethod
    def of(
        subject: Subject, predictor: LoadedPredictor, preprocess: Any, settings: Settings
    ) -> "ScoreWork":
        """Before the rows are known."""
        return ScoreWork(
            subject=subject.absolute(),
            model=predictor.model,
            artifact=predictor.artifact,
            preprocess=preprocess,
            settings=settings,
        )

    @property
    def device(self) -> str:
        """Where the model runs."""
        return self.subject.device

    def on(self, device: str) -> "ScoreWork":
        """See `gradood.scale._worker.Work`."""
        return replace(self, subject=replace(self.subject, device=device))

    def opened(self) -> Runner:
        """See `gradood.scale._worker.Work`."""
        assert self.source is not None
        check_readable(self.source, self.readable)
        predictor = self.subject.opened_as(self.model, self.artifact)
        decoder = decoder_of(self.source, self.preprocess, self.settings.max_pixels)
        scorer = ShardScorer(predictor.monitor, decoder, self.settings, self.batch)
        return _ShardRunner(scorer, self)


@dataclass(frozen=True, slots=True)
class _Shard:
    """A finished shard on its way to the driver."""

    content: bytes
    counts: dict[str, Any]
    batch: int


@final
class _ShardRunner:
    """Makes shards."""

    def __init__(self, scorer: ShardScorer, work: ScoreWork) -> None:
        self._scorer = scorer
        self._work = work

    def run(self, task: Task) -> _Shard:
        source, workers = self._work.source, self._work.settings.workers
        assert source is not None
        if task.careful:
            workers = max(1, workers)
        with closing(self._scorer.scored([task.rows], workers=workers)) as shards:
            table = next(shards).table(source, self._work.artifact)
        return _Shard(encoded(table), counts_of(table), self._scorer.batch)


def scored(
    work: ScoreWork,
    monitor: Predictor,
    listing: RowSource,
    out: str | Path,
    identity: Identity,
    pool_of: PoolOf,
) -> Summary:
    """Score what is missing of a job, by workers.

    Args:
        work: without rows.
        monitor: as workers have it.
        listing: what to score.
        out: folder of the results.
        identity: what else the scores depend on.
        pool_of: gives the workers.

    Raises:
        GradoodError: see `score_images`.
    """
    with open_job(monitor, listing, out, identity, work.settings) as job:
        if job.missing and job.stopped is None:
            _score_missing(job, work, pool_of)
        return job.end()


def _score_missing(job: OpenJob, work: ScoreWork, pool_of: PoolOf) -> None:
    missing, total = job.missing, len(job.source)
    tasks = (Task(shard, rows) for shard, rows in missing.items())
    before = total - sum(map(len, missing.values()))
    shown = job.settings.progress
    rows = readable_rows(job.source)
    whole = replace(work, batch=job.batch, source=job.source, readable=rows, pieces=len(missing))
    with (
        pool_of(whole) as pool,
        progress_bar(total, "score", "image", shown=shown, done=before) as bar,
        closing(answered(pool, tasks)) as done,
    ):
        for task, answer in done:
            shard: _Shard = answer.value
            notes = {"batch": shard.batch, "worker": answer.hardware}
            job.keep(task.index, shard.content, shard.counts, notes)
            bar.update(len(task.rows))
            if job.stopped is not None:
                return


def readable_rows(source: RowSource) -> tuple[int, ...]:
    """A few rows of a source that can be read here."""
    some = sorted({0, len(source) // 2, len(source) - 1})
    return tuple(row for row in some if _unreadable(source, row) is None)


def check_readable(source: RowSource, rows: tuple[int, ...]) -> None:
    """Refuse a machine that can read none of some rows that the driver could read.

    Raises:
        OSError: it says which, and why.
    """
    reasons = [_unreadable(source, row) for row in rows]
    if rows and all(reason is not None for reason in reasons):
        raise OSError(
            f"a worker on {host()} is refused, as it cannot read {source.where(rows[0])}, which "
            f"the driver can: {reasons[0]}. Put the data at the same path on all machines, or "
            "behind a URL."
        )


def _unreadable(source: RowSource, row: int) -> str | None:
    """Why a row cannot be read; None if it can."""
    try:
        if isinstance(source, ColumnRows):
            source.values(row)
        elif isinstance(source, ImageSource):
            encoded = source.encoded(row)
            if isinstance(encoded, Path):
                encoded.stat()
    except (BadRowError, DataError, OSError) as error:
        return " ".join(str(error).split())[:200]
    return None
