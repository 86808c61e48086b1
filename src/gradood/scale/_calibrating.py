"""A calibration spread over workers: they score ranges, and the driver sets the thresholds."""

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import reduce
from typing import Any, final

import torch
from torch import Tensor

from gradood._engine.batches import Batch, batches
from gradood._engine.input_range import checked_range
from gradood._engine.partials import DataSummary
from gradood._engine.progress import progress_bar
from gradood._engine.reproducibility import RowSample
from gradood._engine.rows import Inputs, row
from gradood._io.arguments import instance
from gradood.batch import LoadedPredictor
from gradood.calibration import Promise
from gradood.calibration.results import BatchScores
from gradood.data import RowDataset, loader
from gradood.errors import DataError
from gradood.monitor import Monitor
from gradood.monitor._calibration_scores import CalibrationScores
from gradood.scale._pools import Place, pool_on
from gradood.scale._tasks import Pool, Task
from gradood.scale._worker import PoolOf, Runner, answered
from gradood.scale.loading import Loading, loading_of
from gradood.scale.subject import Subject, check_subject

__all__ = ["CalibrationWork", "calibrate", "calibrated", "calibrated_on"]

_RANGES = 256
"""Ranges at most; scores do not depend on it."""


def calibrate(
    subject: Subject,
    data: RowDataset,
    promise: Promise | None = None,
    *,
    per_class: bool = False,
    allow_overlap: str | None = None,
    loading: Loading | None = None,
    cluster: Place | None = None,
) -> Monitor[Any]:
    """Calibrate a saved detector on a Ray cluster or devices of this machine.

    Thresholds are those of `gradood.Monitor.calibrate` to the last bit, given as many threads and
    the same batches.

    Args:
        subject: model and detector, by names that hold on every machine.
        data: held-out in-distribution data, as for `gradood.Monitor.calibrate`; its files are at
            the same paths, or behind the same URLs, on every machine. Labels are ignored.
        promise: None for a false-alarm rate of 5 %.
        per_class: see there.
        allow_overlap: likewise.
        loading: how each worker reads its rows.
        cluster: None for one that is started on this machine; `Devices` take no Ray, and go before
            the subject's device.

    Returns:
        The monitor, calibrated; save it.

    Raises:
        CalibrationError: too few samples for the promise, or samples that were fitted on.
        DataError: no data, a broken image, or inputs that are not finite.
        ModelMismatchError: model and detector do not belong together, here or on a worker.
        OSError: no cluster, no room in it, or a machine that lacks data or versions.
        ModuleNotFoundError: Ray is not installed.

    Cost:
        This process holds the model and all scores.
    """
    check_subject(subject)
    instance(data, RowDataset, "data", "gradood.data.open_images(…) or open_columns(…)")
    if promise is not None:
        instance(promise, Promise, "promise", "gradood.calibration.Promise(…)")
    predictor = subject.opened()[1]
    work = CalibrationWork.of(subject, predictor, data, loading_of(loading))
    calibrated_on(
        cluster,
        predictor.monitor,
        work,
        promise=Promise() if promise is None else promise,
        per_class=per_class,
        allow_overlap=allow_overlap,
    )
    return predictor.monitor


def calibrated_on(
    cluster: Place | None, monitor: Monitor[Any], work: "CalibrationWork", **options: Any
) -> None:
    """The same, with the model opened before; see `calibrated`."""
    calibrated(monitor, work, pool_of=pool_on(cluster), **options)


@final
@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class CalibrationWork:
    """What workers need to score calibration data.

    Attributes:
        subject: model and detector.
        model: digest of the model's fingerprint.
        artifact: SHA-256 of the detector's file.
        data: the rows.
        reading: how they become batches.
    """

    subject: Subject
    model: str
    artifact: str
    data: RowDataset
    loading: Loading

    @staticmethod
    def of(
        subject: Subject, predictor: LoadedPredictor, data: RowDataset, loading: Loading
    ) -> "CalibrationWork":
        """That of a detector as the driver has it."""
        return CalibrationWork(
            subject=subject.absolute(),
            model=predictor.model,
            artifact=predictor.artifact,
            data=data,
            loading=loading,
        )

    @property
    def device(self) -> str:
        """Where the model runs."""
        return self.subject.device

    @property
    def pieces(self) -> int:
        """See `gradood.scale._worker.Work`."""
        return len(self.loading.ranges(len(self.data), _RANGES))

    def on(self, device: str) -> "CalibrationWork":
        """See `gradood.scale._worker.Work`."""
        return replace(self, subject=replace(self.subject, device=device))

    def opened(self) -> Runner:
        """See `gradood.scale._worker.Work`."""
        predictor = self.subject.opened_as(self.model, self.artifact)
        return _ScoreRunner(predictor.monitor, self)


@dataclass(frozen=True, eq=False, slots=True)
class _Scored:
    """Scores of a range, and which samples they are of."""

    scores: BatchScores
    samples: DataSummary


@final
class _ScoreRunner:
    """Scores ranges."""

    def __init__(self, monitor: Monitor[Any], work: CalibrationWork) -> None:
        self._session = monitor._session
        self._work = work

    def run(self, task: Task) -> _Scored:
        unbound, bound = self._session.unbound, self._session.state.bound
        loaded = self._work.loading.loaded(self._work.data, task)
        found = CalibrationScores.of(unbound, bound, batches(loaded, form=unbound.form))
        return _Scored(found.scores, found.samples)


def calibrated(
    monitor: Monitor[Any],
    work: CalibrationWork,
    promise: Promise,
    per_class: bool,
    allow_overlap: str | None,
    pool_of: PoolOf,
) -> None:
    """Calibrate a monitor by workers.

    Args:
        monitor: as workers have it; calibrated in place.
        work: what they do.
        promise: what is promised.
        per_class: see `gradood.Monitor.calibrate`.
        allow_overlap: likewise.
        pool_of: gives the workers.

    Raises:
        GradoodError: see `calibrate`.
    """
    data, session = work.data, monitor._session
    if not len(data):
        raise DataError("calibrate was given no sample; give held-out in-distribution data.")
    before, content = session.to_calibrate()
    assert before.bound is not None
    tasks = [Task(n, rows) for n, rows in enumerate(work.loading.ranges(len(data), _RANGES))]
    with pool_of(work) as pool:
        scored = _in_order(pool, tasks, len(data))
    names, size = before.bound.detectors, work.loading.batch_size
    scores = BatchScores.joined([part.scores for part in scored], names)
    samples = reduce(DataSummary.merge, (part.samples for part in scored))

    def read(rows: slice) -> Batch:
        loaded = loader(data[rows], batch_size=size)
        return next(batches(loaded, form=session.unbound.form))

    for _ in checked_range([read(slice(0, size))], before.fitted):
        pass  # Warns of inputs that were prepared otherwise.

    def numbered(number: Inputs) -> Inputs:
        assert isinstance(number, Tensor)
        return row(read(slice(int(number), int(number) + 1)).inputs, 0)

    sample = _sampled(scores.keys, size).read_by(numbered)
    measured = CalibrationScores(scores, before.bound, samples, sample)
    session.promise(promise, measured, before, content, per_class, allow_overlap)


def _in_order(pool: Pool, tasks: Sequence[Task], count: int) -> list[_Scored]:
    """What came of the tasks, in their order."""
    found: dict[int, _Scored] = {}
    with progress_bar(count, "calibrate", "row") as bar, closing(answered(pool, tasks)) as done:
        for task, answer in done:
            found[task.index] = answer.value
            bar.update(len(task.rows))
    return [found[task.index] for task in tasks]


def _sampled(keys: Tensor, batch_size: int) -> RowSample:
    """The rows that one pass would have sampled, each by its number.

    Args:
        keys: (rows,) their content keys, in order.
        batch_size: rows that were looked at together.
    """
    sample, numbers = RowSample(), torch.arange(len(keys), device="cpu")
    for some, theirs in zip(numbers.split(batch_size), keys.split(batch_size), strict=True):
        sample.add(some, theirs)
    return sample
