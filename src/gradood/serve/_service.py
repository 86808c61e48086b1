"""The served detector: requests in, answers out, whatever happens to workers and files."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gradood.errors import GradoodError
from gradood.serve._admission import Gate
from gradood.serve._arrays import Arrays
from gradood.serve._metrics import Metrics
from gradood.serve._options import Options
from gradood.serve._pool import Pool
from gradood.serve._protocol import Request
from gradood.serve._queue import Job, Queue
from gradood.serve._refusal import Refusal
from gradood.serve._subject import Subject
from gradood.serve._worker_process import StartError

if TYPE_CHECKING:
    from gradood.serve._watching import Watching

__all__ = ["Service"]

_LOG = logging.getLogger(__name__)
_LAST = 0.5
"""Seconds for workers to end, at least."""


class Service:
    """What the routes ask.

    Args:
        subject: what is served.
        options: of the server.
    """

    def __init__(self, subject: Subject, options: Options) -> None:
        self.subject, self.options = subject, options
        self.metrics = Metrics()
        self.queue = Queue(subject.batch, self._expired)
        self.gate = Gate(options.limits, self.queue)
        self.pool = Pool(self.queue, options.workers, options.timeout, self, self._broken)
        self.watching: Watching | None = None
        self.failed: GradoodError | None = None
        self.exit = asyncio.Event()
        self.broken = False
        self.stopping = False
        self.stopped = False
        self._swapping = asyncio.Lock()
        self._reading: set[asyncio.Timeout] = set()
        self._stamp: tuple[int, int, int] | None = None

    # -- life ---------------------------------------------------------------------------------

    async def start(self) -> None:
        """Load workers, and begin the watch.

        Raises:
            GradoodError: something cannot be loaded.
        """
        if self.options.watch is not None:
            from gradood.serve._watching import Watching

            assert self.subject.detector is not None
            self.watching = Watching(self.options.watch, Path(self.subject.detector))
        self._stamp = _stamp(self.subject.file)  # Before it is read: it may change meanwhile.
        generation = await self.pool.exchange(self.subject, self._exchange_watch)
        self.metrics.serving(generation.version)

    @property
    def ready(self) -> bool:
        """Whether a request that came now would be answered."""
        return self.pool.ready and not self.stopping

    async def tend(self) -> None:
        """Save the watch, and look at the detector's file, for as long as the server runs."""
        while True:
            await asyncio.sleep(1)
            if self.watching is not None:
                await asyncio.to_thread(self.watching.save)
            now = _stamp(self.subject.file)
            if self.options.follow and now is not None and now != self._stamp:
                self._stamp = now
                await self.swap()

    async def swap(self) -> bool:
        """Take over the detector's file as it is now; whether that went well.

        Where it did not, the version before goes on.
        """
        async with self._swapping:
            try:
                generation = await self.pool.exchange(self.subject, self._exchange_watch)
            except (GradoodError, OSError) as error:
                self.metrics.swaps.labels("failed").inc()
                _LOG.error("the detector is not taken over, the one before goes on: %s", error)
                return False
            self.metrics.swaps.labels("done").inc()
            self.metrics.serving(generation.version)
            _LOG.warning("serving version %s", generation.version)
            return True

    def _exchange_watch(self, about: dict[str, Any]) -> None:
        """Begin another watch, where another calibration takes over.

        Raises:
            GradoodError, OSError: it cannot be watched, or the server ends: it is not to take over.
        """
        if self.stopping:
            raise StartError("the server ends.", 0)
        if self.watching is not None:
            assert self.subject.detector is not None
            self.watching.follow(Path(self.subject.detector), about)

    async def stop(self) -> None:
        """Finish what was begun, while there is time; a body that still comes then is refused."""
        end = time.monotonic() + self.options.grace
        self.stopping = True
        while self.gate.requests > 0 and time.monotonic() < end:
            await asyncio.sleep(0.01)
        self.stopped = True
        for reading in tuple(self._reading):
            reading.reschedule(asyncio.get_running_loop().time())
        for job in self.queue.drain():
            if not job.answer.done():
                job.answer.set_exception(_ends())
        await self.pool.close(max(_LAST, end - time.monotonic()))
        if self.watching is not None:
            self.watching.close()

    # -- requests -----------------------------------------------------------------------------

    async def admit(
        self,
        length: int | None,
        read: Callable[[], Awaitable[tuple[Request, int]]],
        gone: Callable[[], Awaitable[None]],
    ) -> tuple[Request, Arrays, str]:
        """Let a request in or refuse it, have it read, and answer it.

        Args:
            length: of its body, as far as it is known before it is read.
            read: gives the request, parsed, and the length of its body.
            gone: ends once the client is gone; called after `read`.

        Returns:
            The request, the answer, and the version that gave it.

        Raises:
            Refusal: it is not answered; says why.
        """
        if self.stopped:
            raise _ends()
        reserved = self.gate.admit(length)
        try:
            try:
                request, length = await self._read(read)
            except BaseException:
                self.queue.reserved -= reserved
                raise
            self.gate.read(reserved, request.rows, length)
            return request, *await self._ask(request, gone())
        finally:
            self.gate.requests -= 1

    async def _read(
        self, read: Callable[[], Awaitable[tuple[Request, int]]]
    ) -> tuple[Request, int]:
        """What `read` gives, unless the server ends first."""
        reading = asyncio.timeout(None)
        self._reading.add(reading)
        try:
            async with reading:
                found = await read()
        except TimeoutError as error:
            raise _ends() from error
        finally:
            self._reading.discard(reading)
        if self.stopped:
            raise _ends()
        return found

    async def _ask(self, request: Request, gone: Awaitable[None]) -> tuple[Arrays, str]:
        """The answer to a request, and the version that gave it."""
        job = Job(
            kind=request.kind,
            key=(request.kind, request.shape),
            rows=request.rows,
            body=request.body,
            shape=request.shape,
            deadline=None if request.timeout is None else time.monotonic() + request.timeout,
            answer=asyncio.get_running_loop().create_future(),
        )
        self.queue.put(job)
        leaving = asyncio.ensure_future(gone)
        try:
            either = {job.answer, leaving}
            first = asyncio.FIRST_COMPLETED
            done, _ = await asyncio.wait(either, timeout=request.timeout, return_when=first)
            if not done and job.taken:
                await asyncio.wait(either, return_when=first)
            elif not done:
                raise _late()
            if not job.answer.done():
                raise Refusal(499, "the client is gone.")
            return job.answer.result()
        finally:
            self.queue.leave(job)
            leaving.cancel()
            with suppress(asyncio.CancelledError):
                await leaving

    def page(self) -> tuple[bytes, str]:
        """The metrics as text, and its type."""
        current = self.pool.current
        self.metrics.set(
            ready=float(self.ready),
            queue_items=self.queue.waiting,
            expected_wait_seconds=self.queue.expected_wait(),
            workers=0 if current is None else len(current.workers),
        )
        if self.watching is not None:
            w = self.watching.watch
            self.metrics.watched(w.alarm, w.warnings, w.evidence, w.level, w.seen)
        return self.metrics.page()

    # -- told by the pool ---------------------------------------------------------------------

    def batch(self, rows: int, seconds: float) -> None:
        """A batch was answered."""
        self.metrics.batches.observe(rows)
        self.metrics.batch_seconds.observe(seconds)

    def died(self) -> None:
        """A worker ended."""
        if self.stopped:
            return
        self.metrics.deaths.inc()
        _LOG.error("a worker ended; another is started")

    def scored(self, job: Job, arrays: Arrays, detector: str | None) -> None:
        """The rows of a request were."""
        if job.answer.done():
            return
        self.metrics.answered(arrays)
        if self.watching is not None:
            self.watching.take_in(arrays, detector)

    def _expired(self, job: Job) -> None:
        if not job.answer.done():
            job.answer.set_exception(_late())

    def _broken(self) -> None:
        _LOG.error("workers end one after another without an answer; giving up")
        self.broken = True
        self.exit.set()


def _ends() -> Refusal:
    return Refusal(503, "the server ends.", retry=1)


def _late() -> Refusal:
    return Refusal(504, "the deadline passed while it was queued.")


def _stamp(file: Path) -> tuple[int, int, int] | None:
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
