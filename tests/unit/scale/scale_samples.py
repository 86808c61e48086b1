"""A small network by name, and workers of this process, which may end as they are told to."""

from collections import deque
from collections.abc import Callable
from contextlib import contextmanager

import torch
from torch import nn

from gradood.scale._tasks import Done, Lost, Ready
from gradood.scale._worker import Failure, Worker

CLASSES = 4


def network() -> nn.Module:
    """The same weights in every process."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(8, CLASSES),
        ).eval()


class FakePool:
    """Workers that do their tasks when they are asked what happened.

    Args:
        do: from a task to what comes of it, or a `Failure`, or None where the worker ends at it.
        workers: how many there are.
        order: which of the busy ones is next, from their numbers.
    """

    def __init__(self, do, workers=2, order: Callable[[list[int]], int] = min):
        self.do, self.order = do, order
        self.opened, self.busy, self.given = set(), {}, []
        self.starting = deque(range(workers))
        self.number = workers

    @property
    def idle(self):
        return sorted(self.opened - self.busy.keys())

    def give(self, worker, task):
        assert worker in self.idle
        self.given.append((worker, task))
        self.busy[worker] = task

    def event(self):
        if self.starting:
            worker = self.starting.popleft()
            self.opened.add(worker)
            return Ready(worker)
        worker = self.order(sorted(self.busy))
        answer = self.do(self.busy.pop(worker))
        if answer is None:
            self.opened.discard(worker)
            return Lost(worker, "killed")
        if isinstance(answer, Failure):
            raise answer.error()
        return Done(worker, answer)

    def replace(self):
        self.starting.append(self.number)
        self.number += 1


@contextmanager
def working(work, *, workers=2, order=min, dies=lambda task: False, threads=1):
    """A pool whose workers really do the work, in this process."""
    from gradood.scale._environment import environment

    worker = Worker()
    failure = worker.open(work, environment(), threads, [])
    if failure is not None:
        raise failure.error()
    yield FakePool(lambda task: None if dies(task) else worker.run(task), workers, order)
