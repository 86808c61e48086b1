"""Requests that wait for a worker, and how long that will take."""

import asyncio
import time
from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Job", "Queue", "batch_sizes"]

_LINGER = 0.002
_WEIGHT = 0.1


def batch_sizes(largest: int) -> list[int]:
    """Sizes of batch that a model is asked for, ascending: 1, 2, 3, 4, 6, 8, 12, 16, 24, 32, ….

    Kernels are compiled for each size of batch and kept, a thousand at most, and buffers of a new
    size do not fit where those before were: with every size from 1 to 32 a worker on DenseNet-101
    had 15 % less throughput and twice the memory.
    """
    found = {step << power for step in (2, 3) for power in range(largest.bit_length())}
    return sorted({1, largest, *(size for size in found if size < largest)})


def _noticed(answer: "asyncio.Future[Any]") -> None:
    """An error that nobody waits for is none that asyncio has to tell."""
    if not answer.cancelled():
        answer.exception()


@dataclass(eq=False)
class Job:
    """One request.

    Attributes:
        kind: ``"tensors"`` or ``"images"``.
        key: jobs of one key may be in one batch.
        rows: how many inputs.
        body: of the frame.
        shape: of one input, of tensors.
        deadline: of the clock of `time.monotonic`, after which nobody waits; or None.
        answer: of the worker, when it is there.
        gone: whether the client is.
        taken: whether a worker has it.
        tries: how often it was with a worker that ended before it had read it.
    """

    kind: str
    key: Hashable
    rows: int
    body: bytes
    shape: tuple[int, ...]
    deadline: float | None
    answer: "asyncio.Future[Any]"
    gone: bool = False
    taken: bool = False
    tries: int = 0
    alone: bool = False
    arrived: float = field(default_factory=time.monotonic)


class Queue:
    """Jobs in order, taken in batches of one key.

    Args:
        limit: rows of a batch, of which it takes one of `batch_sizes`; a job of more is a batch
            of its own.
        expired: called with a job whose deadline has passed.
    """

    def __init__(self, limit: int, expired: Callable[[Job], None]) -> None:
        self._limit = limit
        self._sizes = batch_sizes(limit)
        self._expired = expired
        self._jobs: deque[Job] = deque()
        self._filled = asyncio.Event()
        self._seconds = 0.0
        self._several = False
        self.rows = 0
        self.running = 0
        self.reserved = 0
        self.workers = 1

    def put(self, job: Job, *, first: bool = False) -> None:
        """Add a job; at the front, one that is tried again."""
        job.taken = False
        (self._jobs.appendleft if first else self._jobs.append)(job)
        self.rows += job.rows
        self._filled.set()

    @property
    def waiting(self) -> int:
        """Rows that are queued, with a worker, or on their way in."""
        return self.rows + self.running + self.reserved

    @property
    def seconds(self) -> float:
        """Seconds that a row takes, of late; 0 before the first batch."""
        return self._seconds

    def expected_wait(self) -> float:
        """Seconds until a job that came now would be begun."""
        return self.waiting * self._seconds / max(1, self.workers)

    def measured(self, rows: int, seconds: float) -> None:
        """Note how long a batch took."""
        found = seconds / max(1, rows)
        before = self._seconds
        self._seconds = found if before == 0 else before + _WEIGHT * (found - before)

    async def take(self) -> list[Job]:
        """The next batch; waits for one, and a little for more to join it if they did before.

        Nothing is lost if it is cancelled.
        """
        while True:
            await self._filled.wait()
            if self._several and self.rows < self._limit:
                await asyncio.sleep(_LINGER)
            batch = self._batch()
            if batch:
                self._several = len(batch) > 1 or bool(self._jobs)
                self.running += sum(job.rows for job in batch)
                return batch

    def leave(self, job: Job) -> None:
        """Nobody waits for a job any more: it counts no longer, unless a worker has it."""
        job.gone = True
        if not job.answer.done():
            job.answer.add_done_callback(_noticed)
        if not job.taken and job in self._jobs:
            self._jobs.remove(job)
            self.rows -= job.rows

    def done(self, batch: list[Job]) -> None:
        """A batch of `take` is no longer with a worker."""
        self.running -= sum(job.rows for job in batch)

    def drain(self) -> list[Job]:
        """All jobs, taken out."""
        jobs = list(self._jobs)
        self._jobs.clear()
        self._filled.clear()
        self.rows = 0
        return jobs

    def _batch(self) -> list[Job]:
        batch: list[Job] = []
        rest: deque[Job] = deque()
        rows, now = 0, time.monotonic()
        limit = self._sizes[max(0, bisect_right(self._sizes, self.rows) - 1)]
        while self._jobs:
            job = self._jobs.popleft()
            if job.gone or job.answer.done():
                self.rows -= job.rows
            elif job.deadline is not None and now > job.deadline:
                self.rows -= job.rows
                self._expired(job)
            elif batch and (
                job.key != batch[0].key or rows + job.rows > limit or job.alone or batch[0].alone
            ):
                rest.append(job)
                if rows >= limit or batch[0].alone:
                    break
            else:
                batch.append(job)
                job.taken = True
                rows += job.rows
                self.rows -= job.rows
        rest.extend(self._jobs)
        self._jobs = rest
        if not rest:
            self._filled.clear()
        return batch
