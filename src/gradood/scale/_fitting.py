"""A fit spread over workers: each accumulates fixed ranges of the data, merged in their order."""

from collections.abc import Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any, final

from gradood._engine.batches import batches, first_inputs
from gradood._engine.detector_set import DetectorSet, UnboundSet
from gradood._engine.fitting import accumulate_batches
from gradood._engine.partials import Partials
from gradood._engine.progress import progress_bar
from gradood._engine.rows import Inputs
from gradood._io.arguments import instance
from gradood.artifact.fingerprint import fingerprint
from gradood.bench import example_of
from gradood.data import RowDataset
from gradood.errors import DataError
from gradood.monitor import Monitor
from gradood.scale._plans import FitPlan, bound_by, plan_of
from gradood.scale._pools import Place, pool_on
from gradood.scale._tasks import Task
from gradood.scale._worker import Answer, PoolOf, Runner, answered
from gradood.scale.loading import Loading, loading_of
from gradood.scale.subject import Subject, check_same, check_subject

__all__ = ["FitWork", "fit", "fitted"]

_RANGES = 64
"""Ranges of a fit, whatever the number of workers: their partials are merged in one order."""


def fit(
    monitor: Monitor[Any],
    data: RowDataset,
    subject: Subject,
    *,
    loading: Loading | None = None,
    cluster: Place | None = None,
) -> None:
    """Fit a monitor on a Ray cluster or devices of this machine, in one pass for all detectors.

    What is learned does not depend on the number of workers, to the last bit, as the data is cut
    into the same ranges for any, which are merged in their order; it differs from `Monitor.fit` by
    the rounding of sums in another order, 1e-13 or so.

    Args:
        monitor: with the model of `subject`; fitted in place.
        data: in-distribution, from `gradood.data.open_images` or `open_columns`; its files are at
            the same paths, or behind the same URLs, on every machine.
        subject: the model, by names that hold on every machine.
        loading: how each worker reads its rows; None for the defaults.
        cluster: None for one that is started on this machine; `Devices` take no Ray, and go before
            the subject's device.

    Raises:
        ConfigError: an argument is of another type.
        DataError: no data, labels missing or out of range, inputs not finite, a broken image. The
            monitor is then as it was before.
        ModelMismatchError: a worker has another model.
        OSError: no cluster, no room in it, or a machine that lacks data or versions.
        ModuleNotFoundError: Ray is not installed.

    Cost:
        This process holds the model and what was accumulated so far.
    """
    instance(monitor, Monitor, "monitor", "a gradood.Monitor")
    instance(data, RowDataset, "data", "gradood.data.open_images(…) or open_columns(…)")
    check_subject(subject)
    fitted(monitor, data, subject, loading_of(loading), pool_on(cluster))


@final
@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class FitWork:
    """What workers need to accumulate ranges.

    Attributes:
        subject: the model.
        model: digest of the model's fingerprint.
        options: of the monitor, as of `gradood._engine.detector_set.UnboundSet` without a model.
        plan: what is read of it.
        example: inputs that the driver bound the detectors on.
        data: the rows.
        loading: how they become batches.
    """

    subject: Subject
    model: str
    options: Mapping[str, Any]
    plan: FitPlan
    example: Inputs
    data: RowDataset
    loading: Loading

    @property
    def device(self) -> str:
        """Where the model runs."""
        return self.subject.device

    @property
    def pieces(self) -> int:
        """See `gradood.scale._worker.Work`."""
        return len(self.loading.ranges(len(self.data), _RANGES))

    def on(self, device: str) -> "FitWork":
        """See `gradood.scale._worker.Work`."""
        return replace(self, subject=replace(self.subject, device=device))

    def opened(self) -> Runner:
        """See `gradood.scale._worker.Work`."""
        model = self.subject.load().model
        check_same("model", self.model, fingerprint(model).digest)
        unbound = UnboundSet(model=model, **self.options)
        return _RangeRunner(unbound, bound_by(self.plan, unbound, self.example), self)


@final
class _RangeRunner:
    """Accumulates ranges."""

    def __init__(self, unbound: UnboundSet, bound: DetectorSet, work: FitWork) -> None:
        self._unbound = unbound
        self._bound = bound
        self._work = work

    def run(self, task: Task) -> Partials:
        loaded = self._work.loading.loaded(self._work.data, task)
        stream = batches(loaded, labels=True, form=self._unbound.form)
        partials, _ = accumulate_batches(self._unbound, self._bound, stream)
        return partials


def fitted(
    monitor: Monitor[Any], data: RowDataset, subject: Subject, loading: Loading, pool_of: PoolOf
) -> None:
    """Fit a monitor by workers.

    Args:
        monitor: to fit.
        data: the rows.
        subject: its model.
        loading: how rows become batches.
        pool_of: gives the workers.

    Raises:
        GradoodError: see `fit`.
    """
    if not len(data):
        raise DataError("fit was given no sample; give in-distribution training data.")
    example = example_of(data)
    monitor.bind(example)
    session = monitor._session
    bound = session.state.learning
    assert bound is not None
    if not bound.learners:
        return
    unbound = session.unbound
    work = FitWork(
        subject=subject.absolute(),
        model=fingerprint(monitor.model).digest,
        options={
            name: getattr(unbound, name)
            for name in UnboundSet.__dataclass_fields__
            if name != "model"
        },
        plan=plan_of(unbound.unfitted(bound)),
        example=first_inputs(example, unbound.form),
        data=data,
        loading=loading,
    )
    tasks = [Task(n, rows) for n, rows in enumerate(loading.ranges(len(data), _RANGES))]
    with (
        pool_of(work) as pool,
        progress_bar(len(data), "fit", "row") as bar,
        closing(answered(pool, tasks)) as done,
    ):
        partials = _merged(monitor, done, len(tasks), bar)
    monitor.finish(partials)


def _merged(
    monitor: Monitor[Any], done: Iterable[tuple[Task, Answer]], count: int, bar: Any
) -> Partials:
    """All parts, merged in their order; those that come early wait."""
    waiting: dict[int, Partials] = {}
    total: Partials | None = None
    merged = 0
    for task, answer in done:
        waiting[task.index] = answer.value
        bar.update(len(task.rows))
        while merged in waiting:
            part = waiting.pop(merged)
            total = part if total is None else monitor.merge(total, part)
            merged += 1
    assert total is not None and merged == count
    return total
