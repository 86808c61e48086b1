"""A fit by the ranges of a cluster in this process, for `benchmarks/scale.py`."""

from contextlib import contextmanager
from pathlib import Path

import gradood
from gradood.bench import select
from gradood.data import open_images
from gradood.scale import Loading, Subject
from gradood.scale._environment import environment
from gradood.scale._fitting import fitted
from gradood.scale._tasks import Done, Ready
from gradood.scale._worker import Failure, Worker

__all__ = ["fit_by_ranges"]


class _Here:
    """One worker, which is this process."""

    def __init__(self, worker):
        self._worker, self._ready, self._task = worker, False, None

    @property
    def idle(self):
        return [0] if self._ready and self._task is None else []

    def give(self, worker, task):
        self._task = task

    def event(self):
        if not self._ready:
            self._ready = True
            return Ready(0)
        task, self._task = self._task, None
        answer = self._worker.run(task)
        if isinstance(answer, Failure):
            raise answer.error()
        return Done(0, answer)

    def replace(self):
        raise AssertionError


@contextmanager
def _here(work):
    worker = Worker()
    failure = worker.open(work, environment(), 1, [])
    if failure is not None:
        raise failure.error()
    yield _Here(worker)


def fit_by_ranges(weights, source, batch_size, out):
    """Fit all detectors on ResNet-20 and save them.

    Args:
        weights: of the network.
        source: of images.
        batch_size: rows at once.
        out: file.
    """
    subject = Subject(model="resnet20", weights=str(weights))
    loaded = subject.load()
    data = open_images(source, loaded.preprocess)
    chosen = select("all", [])
    monitor = gradood.Monitor(
        loaded.model,
        dict(chosen.detectors),
        preprocess=data.preprocess.to_dict(),
        skip_unusable=True,
    )
    fitted(monitor, data, subject, Loading(batch_size=batch_size), _here)
    monitor.save(Path(out))
