"""A worker seen from the server: its process, and the connection to it."""

import asyncio
import os
import signal
import socket
import sys
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from gradood.errors import GradoodError
from gradood.serve._frames import read_frame, write_frame
from gradood.serve._queue import Job
from gradood.serve._subject import Subject

__all__ = ["StartError", "Worker", "start_worker"]

_START = 120.0
_ALLOCATION = {"MALLOC_MMAP_THRESHOLD_": str(2**25), "MALLOC_TRIM_THRESHOLD_": str(2**30)}
"""For glibc: buffers of activations stay in the heap, whose pages a batch else faults in anew."""


class StartError(GradoodError):
    """A worker cannot load what is to be served.

    Args:
        message: of the worker.
        code: exit code that it is worth.
    """

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code


@dataclass(eq=False)
class Worker:
    """One process and the connection to it.

    Its next frame is read at all times, so that its end is known even while nobody asks.

    Attributes:
        about: what it said of itself.
        frame: the answer to come; done while nothing was asked once it has ended.
    """

    process: asyncio.subprocess.Process
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    about: dict[str, Any]
    frame: "asyncio.Future[tuple[dict[str, Any], bytes]]" = field(init=False)

    def __post_init__(self) -> None:
        self.frame = asyncio.ensure_future(read_frame(self.reader))

    async def ask(self, batch: list[Job]) -> tuple[dict[str, Any], bytes]:
        """The answer to a batch.

        Raises:
            asyncio.IncompleteReadError: the worker ended.
            OSError: it was ended with data on the way.
        """
        rows = sum(job.rows for job in batch)
        head = {"kind": batch[0].kind, "rows": rows, "shape": [rows, *batch[0].shape]}
        body = batch[0].body if len(batch) == 1 else b"".join(job.body for job in batch)
        await write_frame(self.writer, head, body)
        answer = await self.frame
        self.frame = asyncio.ensure_future(read_frame(self.reader))
        return answer

    async def close(self) -> None:
        """Let it end."""
        if not self.frame.cancel() and not self.frame.cancelled():
            self.frame.exception()  # It is known that it ended.
        self.writer.close()
        with suppress(OSError):
            await self.writer.wait_closed()

    def end(self) -> None:
        """End its process at once."""
        if self.process.returncode is None:
            end_process(self.process)

    async def kill(self) -> None:
        """End it at once, and the connection to it."""
        self.end()
        await self.close()


def end_process(process: asyncio.subprocess.Process) -> None:
    """Kill a process, which may have ended.

    `process.kill` asks for its exit code first, which is then missing where asyncio waits for it.
    """
    with suppress(ProcessLookupError):
        os.kill(process.pid, signal.SIGKILL)


async def start_worker(subject: Subject) -> Worker:
    """A worker that has loaded what it is to serve.

    Raises:
        StartError: it cannot load it, or takes longer than two minutes.
    """
    ours, theirs = socket.socketpair()
    with theirs:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "gradood.serve._worker", str(theirs.fileno())),
            pass_fds=(theirs.fileno(),),
            env={**_ALLOCATION, **os.environ, "OMP_NUM_THREADS": str(subject.threads)},
            start_new_session=True,  # Ctrl-C is for the server, which lets them finish.
        )
    ours.setblocking(False)
    reader, writer = await asyncio.open_connection(sock=ours)
    try:
        # Packages may be found by what `gradood` put on the path, such as the working folder.
        await write_frame(writer, {"subject": subject.to_plain(), "path": _path()})
        about, _ = await asyncio.wait_for(read_frame(reader), _START)
    except (TimeoutError, OSError, asyncio.IncompleteReadError) as error:
        writer.close()
        if process.returncode is None:
            end_process(process)
        raise StartError("a worker ended, or did not load its model in two minutes.", 5) from error
    except asyncio.CancelledError:
        writer.close()
        raise
    if "failed" in about:
        writer.close()
        raise StartError(about["failed"], int(about["code"]))
    return Worker(process, reader, writer, about)


def _path() -> list[str]:
    return [os.getcwd()]
