"""Processes that decode rows: what is done with a row, and the loop of a process.

A process notes in shared memory which row it is at, and since when: so the process that started it
knows which row it ended at, or is late with.
"""

import multiprocessing
import os
import pickle
import random
import signal
import sys
import threading
import time
import traceback
from abc import ABC, abstractmethod
from multiprocessing.connection import Connection, wait
from types import TracebackType
from typing import Any, Generic, TypeVar

import numpy as np
import torch

__all__ = ["IDLE", "RowTask", "STARTING", "end_with_parent", "in_worker", "serve"]

IDLE, STARTING = -1, -2
"""What a process notes where it is at no row."""

_Item = TypeVar("_Item")
_Chunk = TypeVar("_Chunk")
_worker = False


class RowTask(ABC, Generic[_Item, _Chunk]):
    """What is done with each row; sent to the processes once."""

    def start(self) -> None:
        """Called once in each process, before its first row."""
        return

    @abstractmethod
    def decode(self, row: int) -> _Item:
        """One row. What it raises ends the whole."""

    @abstractmethod
    def stand_in(self, row: int, status: str, reason: str) -> _Item:
        """What takes the place of a row that cannot be decoded; called in the parent process.

        Args:
            row: its number.
            status: ``decoder_crashed`` or ``timed_out``.
            reason: the same in words.
        """

    @abstractmethod
    def collate(self, items: list[_Item]) -> _Chunk:
        """The items of a chunk as one; runs where they were decoded."""


def in_worker() -> bool:
    """Whether this process is one that `serve` runs in."""
    return _worker


def serve(task: RowTask[Any, Any], connection: Connection, progress: Any, number: int) -> None:
    """Decode chunk after chunk, until None comes or the parent process is gone.

    Args:
        task: what to do.
        connection: brings (index, rows, stand-ins by row), takes (index, chunk, error).
        progress: (2,) row and time, in shared memory. The time is written first, so that with its
            row it is never too old.
        number: of the process, which seeds its random numbers.
    """
    global _worker
    _worker = True
    # Ctrl-C reaches every process of the terminal; this one ends when it is told to.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    sys.excepthook = _quiet_hang_up
    threading.Thread(target=end_with_parent, daemon=True).start()
    torch.set_num_threads(1)
    torch.manual_seed(number)
    random.seed(number)
    np.random.seed(number)
    task.start()
    progress[0] = IDLE
    try:
        while (message := connection.recv()) is not None:
            _reply(connection, _decoded(task, message, progress))
    except (ConnectionError, EOFError):  # The parent process is gone.
        return


def _decoded(task: RowTask[Any, Any], message: Any, progress: Any) -> tuple[int, Any, Any]:
    """Index, chunk and error of a chunk; one of the last two is None."""
    index, rows, stand_ins = message
    try:
        items = []
        for row in rows:
            if row in stand_ins:
                items.append(stand_ins[row])
                continue
            progress[1] = time.monotonic()
            progress[0] = row
            items.append(task.decode(row))
        progress[0] = IDLE
        return index, task.collate(items), None
    except Exception as error:
        progress[0] = IDLE
        return index, None, _portable(error)


def _reply(connection: Connection, reply: tuple[int, Any, Any]) -> None:
    try:
        connection.send(reply)
    except (ConnectionError, EOFError):
        raise
    except Exception as error:  # It does not pickle; nothing of it was sent.
        connection.send((reply[0], None, RuntimeError(f"{type(error).__name__}: {error}")))


def _portable(error: Exception) -> Exception:
    """An error that arrives in another process as it is, with its traceback as a note."""
    error.add_note("".join(traceback.format_exception(error)))
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error


def end_with_parent() -> None:
    """End this process, whatever it is at, when its parent was killed."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)


def _quiet_hang_up(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    """No traceback, in the middle of the user's terminal, of a receiver that was interrupted."""
    if not issubclass(kind, ConnectionError | EOFError):
        sys.__excepthook__(kind, error, trace)
