"""Rows decoded by processes with a pipe each: a time limit per row, and what to do when one ends.

A row that kills its process, or keeps it for too long, costs no other row more than a second
decoding. The processes share neither pipe nor lock, so that one that is killed, in the middle of
whatever it does, leaves the others as they were.
"""

import logging
import multiprocessing
import time
from collections import Counter, deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import wait
from typing import Any, TypeVar, final

from gradood.data._workers import IDLE, STARTING, RowTask, serve

__all__ = ["DECODE_TIMEOUT", "run_chunks"]

DECODE_TIMEOUT = 120.0
"""Seconds that reading and decoding one image may take in a worker, unless told otherwise."""

_LOG = logging.getLogger(__name__)
_AHEAD = 2  # Chunks per process that are asked for before they are needed.
_TRIES = 3  # Of a row whose process ended; the last one after a pause, with no other row decoded.
_PAUSE = 1.0
_START_TIMEOUT = 300.0

_Item = TypeVar("_Item")
_Chunk = TypeVar("_Chunk")


def run_chunks(
    task: RowTask[_Item, _Chunk],
    chunks: Iterable[Sequence[int]],
    *,
    workers: int,
    timeout: float | None = DECODE_TIMEOUT,
) -> Generator[_Chunk]:
    """One result for each chunk of rows, in their order.

    Processes are started by the default method of `multiprocessing`; unless that is ``fork``, the
    task must pickle. One that ends is replaced. A row that was being decoded when its process
    ended is tried again, the last time after a pause and with no other row being decoded, before
    a stand-in takes its place: a process may be killed by chance, as by the system for want of
    memory.

    Args:
        task: what to do.
        chunks: rows that are decoded together by one process; read as they are needed.
        workers: processes; 0 decodes in this one, where no time limit holds.
        timeout: seconds that one row may take, or None; then its process is ended, and a stand-in
            takes its place at once.

    Raises:
        ChildProcessError: processes end again and again, at no row in particular.
        Exception: what the task raised for a row, or for a stand-in.

    Cost: at most two chunks per process are decoded before they are asked for.
    """
    if workers == 0:
        for rows in chunks:
            yield task.collate([task.decode(row) for row in rows])
        return
    pool = _Pool(task, workers, timeout)
    try:
        yield from pool.results(iter(chunks))
    finally:
        pool.close()


@dataclass(eq=False, slots=True)
class _Job:
    """A chunk that is to be decoded.

    Attributes:
        index: its place.
        rows: to decode.
        stand_ins: for rows that are not decoded any more.
        deaths: of processes, by the row they were at.
        alone: whether nothing else may be decoded meanwhile.
    """

    index: int
    rows: Sequence[int]
    stand_ins: dict[int, Any] = field(default_factory=dict)
    deaths: Counter[int] = field(default_factory=Counter)
    alone: bool = False


@final
class _Worker:
    """A process, and what it was asked for."""

    def __init__(self, task: RowTask[Any, Any], number: int) -> None:
        context = multiprocessing.get_context()
        self.connection, theirs = context.Pipe()
        self._progress = context.RawArray("d", [STARTING, time.monotonic()])
        self.jobs: deque[_Job] = deque()
        self.process = context.Process(
            target=serve, args=(task, theirs, self._progress, number), daemon=True
        )
        self.process.start()
        theirs.close()

    @property
    def row(self) -> int:
        """The row it is at; negative if at none."""
        return int(self._progress[0])

    @property
    def job(self) -> _Job | None:
        """The job of that row."""
        row = self.row
        return next((job for job in self.jobs if row in job.rows), None)

    def deadline(self, timeout: float | None) -> float:
        """When it will have been at its row, or at its start, for too long."""
        limit = {IDLE: None, STARTING: _START_TIMEOUT}.get(self.row, timeout)
        return float("inf") if limit is None else self._progress[1] + limit

    def send(self, job: _Job) -> None:
        """Ask for a chunk."""
        self.jobs.append(job)
        with suppress(OSError):  # It has ended, which the next wait will tell.
            self.connection.send((job.index, job.rows, job.stand_ins))

    def dismiss(self) -> None:
        """Tell it that there is nothing more to do."""
        with suppress(OSError):
            self.connection.send(None)

    def end(self, *, patience: float = 0.0) -> None:
        """End it; what it was decoding is lost."""
        self.process.join(patience)
        if self.process.is_alive():
            self.process.kill()
        self.process.join()
        self.connection.close()


@final
class _Pool:
    """Processes, chunks that wait for one, and chunks that are ready."""

    def __init__(self, task: RowTask[Any, Any], workers: int, timeout: float | None) -> None:
        self._task = task
        self._size = workers
        self._timeout = timeout
        self._workers: list[_Worker] = []
        self._started = 0
        self._waiting: list[_Job] = []
        self._ready: dict[int, tuple[Any, Exception | None]] = {}
        self._unexplained = 0

    def results(self, chunks: Iterator[Sequence[int]]) -> Generator[Any]:
        """What `run_chunks` gives."""
        while len(self._workers) < self._size:
            self._start()
        asked = delivered = 0
        while True:
            while asked - delivered < self._size * _AHEAD:
                rows = next(chunks, None)
                if rows is None:
                    break
                self._waiting.append(_Job(asked, rows))
                asked += 1
            if asked == delivered:
                return
            self._hand_out()
            if delivered not in self._ready:
                self._wait()
                continue
            chunk, error = self._ready.pop(delivered)
            if error is not None:
                raise error
            delivered += 1
            yield chunk

    def close(self) -> None:
        """End all processes."""
        idle = [worker for worker in self._workers if not worker.jobs]
        for worker in idle:
            worker.dismiss()
        for worker in self._workers:
            worker.end(patience=1.0 if worker in idle else 0.0)
        self._workers.clear()

    def _start(self) -> None:
        self._workers.append(_Worker(self._task, self._started))
        self._started += 1

    def _hand_out(self) -> None:
        """Give chunks that wait to processes that have few; one that is to be alone, alone."""
        while self._waiting:
            first = self._waiting[0]
            worker = min(self._workers, key=lambda worker: len(worker.jobs))
            running = [job for each in self._workers for job in each.jobs]
            alone = first.alone or any(job.alone for job in running)
            if (alone and running) or len(worker.jobs) == _AHEAD:
                return
            if alone:
                time.sleep(_PAUSE)
            worker.send(self._waiting.pop(0))

    def _wait(self) -> None:
        """Until a process has something to say, has ended, or has been at a row for too long."""
        deadline = min(worker.deadline(self._timeout) for worker in self._workers)
        # A row that is begun meanwhile has its deadline after all of these.
        patience = min(deadline - time.monotonic(), self._timeout or _START_TIMEOUT)
        sentinels = [worker.process.sentinel for worker in self._workers]
        ready = wait([w.connection for w in self._workers] + sentinels, max(0.0, patience))
        for worker in tuple(self._workers):
            if worker.connection in ready:
                self._receive(worker)
            elif worker.process.sentinel in ready:
                self._replace(worker)
            else:
                self._end_if_late(worker)

    def _receive(self, worker: _Worker) -> None:
        try:
            index, chunk, error = worker.connection.recv()
        except MemoryError:
            raise
        except Exception:  # It ended; or it sent what memory of its own belongs to, and ended.
            self._replace(worker)
            return
        job = worker.jobs.popleft()
        assert job.index == index
        self._unexplained = 0
        self._ready[index] = chunk, error

    def _end_if_late(self, worker: _Worker) -> None:
        row, job = worker.row, worker.job
        if time.monotonic() <= worker.deadline(self._timeout):
            return
        worker.process.kill()
        worker.process.join()
        if job is None or worker.row != row:  # At its start; or it went on in the last moment.
            if row == STARTING:
                self._count_unexplained("its start took too long")
            self._renew(worker)
            return
        reason = f"reading and decoding it took longer than {self._timeout:g} seconds"
        job.stand_ins[row] = self._task.stand_in(row, "timed_out", reason)
        _LOG.warning("row %d: %s; its process was ended and replaced", row, reason)
        self._renew(worker)

    def _replace(self, worker: _Worker) -> None:
        """Note the end of a process at the row it was at, or at none, and start another."""
        worker.process.join(1.0)  # Its files close a moment before it is gone.
        job = None if worker.process.is_alive() else worker.job
        row = worker.row
        worker.end()
        why = f"exit code {worker.process.exitcode}"
        place = "" if job is None else f" from row {job.rows[0]}"
        _LOG.warning("a process that decodes images ended (%s); another takes over%s", why, place)
        if job is None:
            self._count_unexplained(why)
        else:
            job.deaths[row] += 1
            job.alone = job.deaths[row] == _TRIES - 1
            if job.deaths[row] == _TRIES:
                reason = f"the process that decoded it ended, {_TRIES} times ({why})"
                job.stand_ins[row] = self._task.stand_in(row, "decoder_crashed", reason)
        self._renew(worker)

    def _renew(self, worker: _Worker) -> None:
        """Another process in the place of one; what that had not finished waits again."""
        worker.end()
        self._workers.remove(worker)
        self._waiting = sorted([*worker.jobs, *self._waiting], key=lambda job: job.index)
        self._start()

    def _count_unexplained(self, why: str) -> None:
        self._unexplained += 1
        if self._unexplained > self._size * _AHEAD + 1:
            raise ChildProcessError(
                f"processes that decode images ended {self._unexplained} times ({why}); finished "
                "shards are kept. Free memory or take fewer --workers, and run the same again."
            )
