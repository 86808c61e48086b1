"""Tasks of a driver: each is done once, by whichever worker is free, however many workers end.

A pool of workers is all that the loop knows of a cluster; tests give it one of this process.
"""

import logging
from collections import Counter, deque
from collections.abc import Generator, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

__all__ = ["Done", "Event", "Lost", "Pool", "Ready", "Task", "completed"]

_LOG = logging.getLogger(__name__)
_TRIES = 3
"""Workers that may end at one task before it is done with care, and then again with care."""


@dataclass(frozen=True, slots=True)
class Task:
    """Some rows of a source, to be done in one piece.

    Attributes:
        index: its number.
        rows: of the source.
        careful: whether rows are to be decoded apart from the worker, as one of them may end it.
    """

    index: int
    rows: range
    careful: bool = False


@dataclass(frozen=True, slots=True)
class Ready:
    """A worker can take tasks.

    Attributes:
        worker: its number.
    """

    worker: int


@dataclass(frozen=True, slots=True)
class Done:
    """A worker has done its task.

    Attributes:
        worker: its number.
        value: what came of it.
    """

    worker: int
    value: Any


@dataclass(frozen=True, slots=True)
class Lost:
    """A worker has ended, at its task, if it had one, or at its start.

    Attributes:
        worker: its number.
        why: in words.
    """

    worker: int
    why: str


Event = Ready | Done | Lost


class Pool(Protocol):
    """Workers that do one task at a time."""

    @property
    def idle(self) -> Sequence[int]:
        """Numbers of the workers that could take a task now."""
        ...

    def give(self, worker: int, task: Task) -> None:
        """Let a worker do a task."""
        ...

    def event(self) -> Event:
        """What happens next; waits for it.

        Raises:
            Exception: what a task raised, or why no worker can be had.
        """
        ...

    def replace(self) -> None:
        """Start a worker in the place of one that was lost."""
        ...


def completed(pool: Pool, tasks: Iterable[Task]) -> Generator[tuple[Task, Any]]:
    """Each task with what came of it, as they are done, each once.

    They are begun in their order. A task whose worker ended is begun again before all others; after
    the third time with care, and after the third time with care the whole is given up.

    Args:
        pool: the workers.
        tasks: taken as workers are free.

    Raises:
        ChildProcessError: workers end again and again, at one task or at their start.
        Exception: what a task raised.
    """
    source = iter(tasks)
    again: deque[Task] = deque()
    running: dict[int, Task] = {}
    deaths: Counter[int] = Counter()
    starts = 0
    exhausted = False
    while True:
        for worker in pool.idle:
            task = again.popleft() if again else next(source, None)
            if task is None:
                exhausted = True
                break
            running[worker] = task
            pool.give(worker, task)
        if exhausted and not running and not again:
            return
        event = pool.event()
        if isinstance(event, Done):
            starts = 0
            yield running.pop(event.worker), event.value
        elif isinstance(event, Lost):
            task = running.pop(event.worker, None)
            starts = _counted_start(starts, event) if task is None else starts
            if task is not None:
                again.appendleft(_begun_again(task, deaths, event))
            pool.replace()


def _begun_again(task: Task, deaths: Counter[int], event: Lost) -> Task:
    """The task, noted as one that a worker ended at."""
    deaths[task.index] += 1
    count = deaths[task.index]
    _LOG.warning(
        "worker %d ended at task %d (%s); it is begun again", event.worker, task.index, event.why
    )
    if count == 2 * _TRIES:
        raise ChildProcessError(
            f"{count} workers ended at rows {task.rows.start} to {task.rows.stop - 1}, also with "
            f"rows decoded apart ({event.why}). What is finished is kept; give workers more "
            "memory, or leave these rows out, and run the same again."
        )
    return replace(task, careful=count >= _TRIES)


def _counted_start(starts: int, event: Lost) -> int:
    """How many workers in a row have ended at their start, or idle."""
    _LOG.warning("worker %d ended before it did a task (%s)", event.worker, event.why)
    if starts + 1 == 2 * _TRIES:
        raise ChildProcessError(
            f"{starts + 1} workers ended before they did a task ({event.why}). What is finished is "
            "kept; give workers more memory, or see what ends them (the model, or a library that "
            "it loads), and run the same again."
        )
    return starts + 1
