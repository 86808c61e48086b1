"""The served detector: requests in, answers out, whatever happens to workers and files."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from gradood.errors import ConfigError, GradoodError
from gradood.serve._admission import Gate, Limits
from gradood.serve._arrays import Arrays
from gradood.serve._metrics import Metrics
from gradood.serve._pool import Pool
from gradood.serve._protocol import Request
from gradood.serve._queue import Job, Queue
from gradood.serve._refusal import Refusal
from gradood.serve._subject import Subject
from gradood.serve._worker_process import StartError

if TYPE_CHECKING:
    from gradood.serve._watching import Watching

__all__ = ["Options", "Service"]

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Options:
    """How a server runs.

    Attributes:
        name: of the model, in addresses.
        host: address to listen at.
        port: to listen at; 0 takes a free one.
        grpc: port to listen at for gRPC too; 0 takes a free one, None none.
        workers: processes that compute.
        timeout: seconds that a batch may take.
        grace: seconds for what was begun to end, once the server is told to.
        follow: take over the detector's file when it changes, not only on SIGHUP.
        watch: file of the state of a watch, or None.
        keys: one of which a client must have; none are needed if there are none.
        limits: what a client may ask for.

    Raises:
        ConfigError: both ports are the same, or the name can be in no address.
    """

    name: str = "detector"
    host: str = "127.0.0.1"
    port: int = 8080
    grpc: int | None = None
    workers: int = 1
    timeout: float = 60.0
    grace: float = 30.0
    follow: bool = False
    watch: Path | None = None
    keys: tuple[bytes, ...] = ()
    limits: Limits = field(default_factory=Limits)

    def __post_init__(self) -> None:
        if self.grpc == self.port != 0:
            raise ConfigError(
                f"--port and --grpc are both {self.port}; HTTP and gRPC each need a port of their "
                "own."
            )
        if not self.name or "/" in self.name or not self.name.isprintable():
            raise ConfigError(
                f"--name {self.name!r} can be in no address; name the model in letters and digits."
            )


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

    def _exchange_watch(self, sha256: str) -> None:
        """Begin another watch, where another calibration takes over.

        Raises:
            GradoodError, OSError: it cannot be watched, or the server ends: it is not to take over.
        """
        if self.stopping:
            raise StartError("the server ends.", 0)
        if self.watching is None or self.subject.detector is None or self.subject.onnx is not None:
            return
        if self.watching.sha256 != sha256:
            self.watching.exchange(Path(self.subject.detector), sha256)

    async def stop(self) -> None:
        """Finish what was begun."""
        end = time.monotonic() + self.options.grace
        self.stopping = True
        while self.queue.rows + self.queue.running > 0 and time.monotonic() < end:
            await asyncio.sleep(0.01)
        self.stopped = True
        for job in self.queue.drain():
            if not job.answer.done():
                job.answer.set_exception(Refusal(503, "the server ends.", retry=1))
        await self.pool.close()
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
            raise Refusal(503, "the server ends.", retry=1)
        reserved = self.gate.admit(length)
        try:
            try:
                request, length = await read()
            except BaseException:
                self.queue.reserved -= reserved
                raise
            self.gate.read(reserved, request.rows, length)
            return request, *await self._ask(request, gone())
        finally:
            self.gate.requests -= 1

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
            await asyncio.wait({job.answer, leaving}, return_when=asyncio.FIRST_COMPLETED)
            if not job.answer.done():
                raise Refusal(499, "the client is gone.")
            return job.answer.result()
        finally:
            job.gone = True
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
        self.metrics.deaths.inc()
        _LOG.error("a worker ended; another is started")

    def scored(self, job: Job, arrays: Arrays, sha256: str) -> None:
        """The rows of a request were."""
        if job.answer.done():
            return
        self.metrics.answered(arrays)
        if self.watching is not None:
            # With a graph the calibration is the detector's, whose hash the graph has not.
            of = self.watching.sha256 if self.subject.onnx is not None else sha256
            self.watching.take_in(arrays, of)

    def _expired(self, job: Job) -> None:
        if not job.answer.done():
            job.answer.set_exception(Refusal(504, "the deadline passed while it was queued."))

    def _broken(self) -> None:
        _LOG.error("workers end one after another without an answer; giving up")
        self.broken = True
        self.exit.set()


def _stamp(file: Path) -> tuple[int, int, int] | None:
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
