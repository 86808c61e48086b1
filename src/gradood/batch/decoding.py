"""Chunks decoded by other processes, in order, whatever becomes of the processes."""

import logging
import signal
import sys
import threading
from collections.abc import Generator, Iterator, Sequence
from types import TracebackType
from typing import Any

import torch
from torch.utils.data import DataLoader

from gradood.batch.items import Chunk, Item, Items, collate, quiet

__all__ = ["decoded"]

_LOG = logging.getLogger(__name__)
_AHEAD = 2
# torch's own error; and those of fetching what a process had made, after it was gone.
_LOST = (RuntimeError, ConnectionError, EOFError, FileNotFoundError)


def decoded(items: Items, rows: Sequence[range], *, workers: int) -> Generator[Chunk]:
    """One chunk for each range of rows.

    A process that dies, by a fault in a decoder or for want of memory, is replaced, and the rows
    it may have died of are decoded alone. A row that kills its process even so gets the status
    ``decoder_crashed``.

    Args:
        items: the rows.
        rows: which to decode together.
        workers: processes; 0 decodes in this one.

    Raises:
        ChildProcessError: processes die again and again, of no row in particular.
    """
    start = losses = 0
    with _Deaths() as deaths:
        while start < len(rows):
            try:
                for chunk in _chunks(items, rows[start:], workers, deaths):
                    start += 1
                    yield chunk
                continue
            except _LOST as error:
                if not _lost(error):
                    raise
                why = str(error).rstrip(". ") or type(error).__name__
            # Only here are the other processes of that loader gone.
            losses += 1
            # What was asked for ahead of the first chunk missing may be the cause just as well.
            if losses > workers * _AHEAD + 1:
                raise ChildProcessError(
                    f"processes that decode images ended {losses} times ({why}); finished shards "
                    "are kept. Free memory or take fewer --workers, and run the same again."
                )
            _LOG.warning(
                "a process that decodes images ended (%s); another takes over from row %d",
                why,
                rows[start].start,
            )
            chunk = collate([_alone(items, row, deaths) for row in rows[start]])
            losses = 0 if any(note.status == "decoder_crashed" for note in chunk.notes) else losses
            start += 1
            yield chunk


def _alone(items: Items, row: int, deaths: "_Deaths") -> Item:
    try:
        chunk = next(_chunks(items, [range(row, row + 1)], 1, deaths))
    except _LOST as error:
        if not _lost(error):
            raise
        return Item(row, None, "decoder_crashed", "the process that decoded it ended")
    x = chunk.groups[0][1][0] if chunk.groups else None
    note = chunk.notes[0] if chunk.notes else Item(row, None)
    return Item(row, x, note.status, note.reason)


def _lost(error: BaseException) -> bool:
    words = str(error)
    plain = not isinstance(error, RuntimeError)
    return plain or words.startswith("DataLoader worker") or "ancdata" in words


def _chunks(
    items: Items, rows: Sequence[range], workers: int, deaths: "_Deaths"
) -> Iterator[Chunk]:
    loader: DataLoader[Any] = DataLoader(
        items,
        batch_sampler=rows,  # type: ignore[arg-type]  # Any iterable of lists of rows will do.
        num_workers=workers,
        collate_fn=collate,
        worker_init_fn=_begin,
        prefetch_factor=_AHEAD if workers else None,
        # Without one of its own, every pass draws from the global generator.
        generator=torch.Generator(),
    )
    iterator = iter(loader)
    deaths.mute()
    yield from iterator


def _begin(_: int) -> None:
    # Ctrl-C reaches every process of the terminal; this one ends when it is told to.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    sys.excepthook = _hung_up
    quiet()


def _hung_up(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """No traceback, in the middle of the user's terminal, of a receiver that was interrupted."""
    if not issubclass(kind, ConnectionError | EOFError):
        sys.__excepthook__(kind, error, trace)


class _Deaths:
    """While it is entered, a death is an error only where the next chunk is asked for.

    That is within five seconds. From its signal handler, torch would raise it anywhere: in a
    forward pass, between two steps of a commit, in the start of another process.
    """

    def __init__(self) -> None:
        self._main = threading.current_thread() is threading.main_thread()
        self._handler: Any = None

    def __enter__(self) -> "_Deaths":
        self.mute()
        return self

    def mute(self) -> None:
        """Take torch's handler away; called again when torch may have set it."""
        if not self._main or not hasattr(signal, "SIGCHLD"):
            return
        handler = signal.getsignal(signal.SIGCHLD)
        if getattr(handler, "__module__", "").startswith("torch.utils.data."):
            self._handler = handler
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)

    def __exit__(self, *_: object) -> None:
        if self._handler is not None:
            signal.signal(signal.SIGCHLD, self._handler)
