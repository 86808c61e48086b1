"""Workers: started, asked, replaced when they die, and exchanged for those of a new version."""

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from gradood.serve._arrays import Arrays, rows_of, unpack
from gradood.serve._queue import Job, Queue
from gradood.serve._refusal import Refusal
from gradood.serve._subject import Subject
from gradood.serve._worker_process import StartError, Worker, start_worker

__all__ = ["Events", "Generation", "Pool"]

_LOG = logging.getLogger(__name__)
_DEATHS = 3


class Events(Protocol):
    """What is told of the workers."""

    def batch(self, rows: int, seconds: float) -> None:
        """A batch was answered."""

    def died(self) -> None:
        """A worker did."""

    def scored(self, job: Job, arrays: Arrays, detector: str | None) -> None:
        """The rows of a request were."""


@dataclass(eq=False)
class Generation:
    """The workers of one version.

    Attributes:
        about: what its first worker said of itself.
        workers: that are alive.
        tasks: one for each place of a worker.
        retired: set once another generation has taken over.
    """

    subject: Subject
    about: dict[str, Any]
    workers: set[Worker] = field(default_factory=set)
    tasks: set["asyncio.Task[None]"] = field(default_factory=set)
    retired: bool = False

    @property
    def version(self) -> str:
        """First 12 digits of the SHA-256."""
        return str(self.about["sha256"])[:12]


class Pool:
    """Workers of the version that is served.

    Args:
        queue: of jobs.
        count: of workers.
        timeout: seconds that a batch may take.
        events: is told what happens.
        broken: called once workers die one after another without an answer.
    """

    def __init__(
        self,
        queue: Queue,
        count: int,
        timeout: float,
        events: Events,
        broken: Callable[[], None],
    ) -> None:
        self._queue, self._count, self._timeout = queue, count, timeout
        self._events, self._broken = events, broken
        self._deaths = 0
        self._retiring: dict[asyncio.Task[None], Generation] = {}
        self.current: Generation | None = None
        queue.workers = count

    @property
    def ready(self) -> bool:
        """Whether a worker is there to answer."""
        return self.current is not None and bool(self.current.workers)

    async def exchange(
        self, subject: Subject, agreed: Callable[[dict[str, Any]], None]
    ) -> Generation:
        """Start workers of a version, and only then let them take over.

        Args:
            subject: of the version.
            agreed: called with what they say of themselves right before; they do not if it raises.

        Raises:
            StartError: they cannot load it; the version before goes on.
        """
        started = await asyncio.gather(
            *(start_worker(subject) for _ in range(self._count)), return_exceptions=True
        )
        workers = [worker for worker in started if isinstance(worker, Worker)]
        failed = [error for error in started if isinstance(error, BaseException)]
        try:
            if failed:
                raise failed[0]
            if len({worker.about["sha256"] for worker in workers}) != 1:
                raise StartError("the file changed while it was loaded.", 3)
            agreed(workers[0].about)
        except BaseException:
            for worker in workers:
                await worker.kill()
            raise
        generation = Generation(subject, workers[0].about, set(workers))
        before, self.current = self.current, generation
        generation.tasks = {
            asyncio.create_task(self._serve(generation, worker)) for worker in workers
        }
        if before is not None:
            self._retire(before)
        return generation

    def _retire(self, generation: Generation) -> None:
        task = asyncio.create_task(_retire(generation))
        self._retiring[task] = generation
        task.add_done_callback(self._retiring.pop)

    async def close(self, patience: float) -> None:
        """End the workers; what is queued is for the caller.

        Args:
            patience: seconds for the batches that they have; then they are killed.
        """
        if self.current is not None:
            self._retire(self.current)
        if not self._retiring:
            return
        await asyncio.wait(self._retiring, timeout=patience)
        for generation in self._retiring.values():
            for worker in generation.workers:
                worker.end()  # Whoever waits for its answer is told by the connection.
        await asyncio.gather(*self._retiring)

    async def _serve(self, generation: Generation, worker: Worker | None) -> None:
        """One place of a worker, for as long as its generation is served."""
        while not generation.retired:
            if worker is None:
                worker = await self._replaced(generation)
                continue
            batch = await self._taken(worker)
            # A batch that was taken is finished, even when another version takes over.
            if batch is None or not await _uncancelled(self._answered(generation, worker, batch)):
                generation.workers.discard(worker)
                worker = None

    async def _taken(self, worker: Worker) -> list[Job] | None:
        """The next batch for a worker, or None if it ends before there is one."""
        take = asyncio.ensure_future(self._queue.take())
        try:
            await asyncio.wait({take, worker.frame}, return_when=asyncio.FIRST_COMPLETED)
            if not worker.frame.done():
                return take.result()
        except asyncio.CancelledError:
            self._put_back(take)
            raise
        self._put_back(take)
        await worker.kill()
        self._events.died()
        return None

    def _put_back(self, take: "asyncio.Future[list[Job]]") -> None:
        """End the wait for a batch; one that came meanwhile is the next again."""
        if take.cancel() or take.cancelled():
            return
        batch = take.result()
        self._queue.done(batch)
        for job in reversed(batch):
            self._queue.put(job, first=True)

    async def _replaced(self, generation: Generation) -> Worker | None:
        try:
            worker = await start_worker(generation.subject)
        except (TimeoutError, StartError, OSError) as error:
            _LOG.error("a worker cannot be started: %s", error)
            self._died()
            await asyncio.sleep(1)
            return None
        if worker.about["sha256"] != generation.about["sha256"]:
            await worker.kill()
            _LOG.error("the detector's file is another than is served; SIGHUP takes it over")
            self._died()
            await asyncio.sleep(1)
            return None
        generation.workers.add(worker)
        return worker

    async def _answered(self, generation: Generation, worker: Worker, batch: list[Job]) -> bool:
        """Have a batch answered; whether the worker is still alive."""
        start = time.monotonic()
        try:
            head, body = await asyncio.wait_for(worker.ask(batch), self._timeout)
            arrays = unpack(head.get("arrays", ()), body)
        except (TimeoutError, OSError, asyncio.IncompleteReadError, ValueError) as error:
            await worker.kill()
            self._queue.done(batch)
            self._events.died()
            # Clients of gRPC repeat by themselves what is unavailable.
            text = "the worker ended on this request; do not repeat it."
            # A connection that is reset, and not closed, held what the worker had not read.
            unread = isinstance(error, ConnectionError)
            self._again(batch, Refusal(503, text, grpc="INTERNAL"), unread=unread)
            self._died()
            return False
        self._queue.done(batch)
        self._deaths = 0
        seconds = time.monotonic() - start
        rows = sum(job.rows for job in batch)
        self._queue.measured(rows, seconds)
        if "error" in head:
            text = head["error"] if head["status"] == 400 else "the model failed on this request."
            self._again(batch, Refusal(int(head["status"]), text))
            return True
        self._events.batch(rows, seconds)
        place = 0
        for job in batch:
            found = rows_of(arrays, slice(place, place + job.rows))
            place += job.rows
            self._events.scored(job, found, generation.about["detector"])
            if not job.answer.done():
                job.answer.set_result((found, generation.version))
        return True

    def _again(self, batch: list[Job], refusal: Refusal, *, unread: bool = False) -> None:
        """A batch failed: try its requests one by one, so that one costs itself alone.

        Args:
            batch: that failed.
            refusal: of a request that failed by itself.
            unread: whether the worker ended before it had read the batch, which is then tried
                again, once.
        """
        for job in reversed(batch):
            if job.answer.done():
                continue
            if unread and job.tries == 0:
                job.tries += 1
                self._queue.put(job, first=True)
            elif len(batch) > 1:
                job.alone = True
                self._queue.put(job, first=True)
            else:
                job.answer.set_exception(refusal)

    def _died(self) -> None:
        self._deaths += 1
        if self._deaths >= _DEATHS * self._count and not self.ready:
            self._broken()


async def _retire(generation: Generation) -> None:
    """Let the workers of a generation finish what they have, and end."""
    generation.retired = True
    for task in generation.tasks:
        task.cancel()  # Where it waits for a batch; one that has a batch goes on with it.
    await asyncio.gather(*generation.tasks, return_exceptions=True)
    for worker in tuple(generation.workers):
        await worker.close()
    generation.workers.clear()


async def _uncancelled(work: Any) -> Any:
    """The result of some work that goes on when this task is cancelled, and then ends it."""
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await task
        raise
