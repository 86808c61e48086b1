"""Processes of this machine as a pool of workers, one for each device."""

import io
import multiprocessing
import pickle
import signal
import sys
import threading
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Any, final

import torch
from torch import Tensor

from gradood.data._workers import end_with_parent
from gradood.scale._environment import environment
from gradood.scale._tasks import Done, Event, Lost, Ready, Task
from gradood.scale._worker import Failure, Work, Worker
from gradood.scale.devices import Devices

__all__ = ["ProcessPool", "process_pool"]


@contextmanager
def process_pool(devices: Devices, work: Work) -> Iterator["ProcessPool"]:
    """A process for each device, but no more than tasks, which end with the block.

    They are started afresh, as a process that uses a GPU cannot be forked: a program that is run as
    a file must be guarded by ``if __name__ == "__main__":``.

    Args:
        devices: where.
        work: that they do; its device is that of the process.
    """
    pool = ProcessPool(devices, work)
    try:
        yield pool
    finally:
        pool.close()


@dataclass(eq=False, slots=True)
class _Process:
    """A worker.

    Attributes:
        process: of multiprocessing.
        connection: brings answers, takes tasks.
        device: its own.
        opened: whether it can take tasks.
        busy: whether it has one.
    """

    process: Any
    connection: Connection
    device: str
    opened: bool = False
    busy: bool = False


@final
class ProcessPool:
    """Processes, at most one task at each; see `gradood.scale._tasks.Pool`."""

    def __init__(self, devices: Devices, work: Work) -> None:
        self._threads = devices.threads or torch.get_num_threads()
        self._work = work
        self._processes: dict[int, _Process] = {}
        self._free = list(devices.names[: max(1, work.pieces)])
        self._started = 0
        while self._free:
            self.replace()

    @property
    def idle(self) -> Sequence[int]:
        return [n for n, one in self._processes.items() if one.opened and not one.busy]

    def give(self, worker: int, task: Task) -> None:
        process = self._processes[worker]
        process.busy = True
        with suppress(OSError):  # It has ended, which the next event tells.
            process.connection.send(task)

    def event(self) -> Event:
        found = wait([one.connection for one in self._processes.values()])
        number = next(n for n, one in self._processes.items() if one.connection in found)
        process = self._processes[number]
        try:
            answer = pickle.loads(process.connection.recv_bytes())
        except (EOFError, OSError):
            return self._lost(number)
        if isinstance(answer, Failure):
            raise answer.error()
        if process.opened:
            process.busy = False
            return Done(number, answer)
        process.opened = True
        return Ready(number)

    def replace(self) -> None:
        """Start a process on the device of one that was lost."""
        device = self._free.pop(0)
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        arguments = (theirs, self._work.on(device), environment(), self._threads)
        process = context.Process(target=_serve, args=arguments, name=f"gradood {device}")
        process.start()
        theirs.close()
        self._processes[self._started] = _Process(process, ours, device)
        self._started += 1

    def close(self) -> None:
        """End all processes."""
        for one in self._processes.values():
            one.process.kill()
        for one in self._processes.values():
            one.process.join()
            one.connection.close()
        self._processes.clear()

    def _lost(self, number: int) -> Lost:
        one = self._processes.pop(number)
        one.process.join(1.0)  # Its files close a moment before it is gone.
        one.process.kill()
        one.process.join()
        one.connection.close()
        self._free.append(one.device)
        return Lost(number, f"the process on {one.device}: exit code {one.process.exitcode}")


def _serve(connection: Connection, work: Work, driver: Mapping[str, str], threads: int) -> None:
    """Open the work, and do tasks until this process is ended."""
    # Ctrl-C reaches every process of the terminal; this one ends when its parent ends it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=end_with_parent, daemon=True).start()
    warnings.simplefilter("ignore")  # The parent says them, each once.
    worker = Worker()
    with suppress(ConnectionError, EOFError):  # The parent is gone.
        connection.send_bytes(_pickled(worker.open(work, driver, threads, sys.path)))
        while True:
            connection.send_bytes(_pickled(worker.run(connection.recv())))


@final
class _Pickler(pickle.Pickler):
    """Tensors as bytes of the CPU.

    What `Connection.send` would do with them takes a file descriptor of the parent for each, and
    the process for as long as they are in use.
    """

    def reducer_override(self, value: Any) -> Any:
        if isinstance(value, Tensor) and value.device.type != "cpu":
            return _itself, (value.cpu(),)
        return NotImplemented


def _itself(value: Tensor) -> Tensor:
    return value


def _pickled(value: Any) -> bytes:
    content = io.BytesIO()
    _Pickler(content, pickle.HIGHEST_PROTOCOL).dump(value)
    return content.getvalue()
