"""A worker: a process that loads the model and answers frames, and may die."""

import logging
import os
import signal
import socket
import sys
from contextlib import suppress
from typing import Any

import numpy as np

from gradood.errors import ArtifactError, DataError, GradoodError, ModelMismatchError
from gradood.serve._arrays import pack, split_bytes
from gradood.serve._frames import receive_frame, send_frame
from gradood.serve._subject import LoadedSubject, Subject, load_subject

__all__ = ["answer_frames", "main"]

_LOG = logging.getLogger(__name__)


def main(handle: int) -> None:
    """Serve the socket of a file descriptor until it is closed.

    Args:
        handle: inherited from the server.
    """
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # The server says when to end, by closing.
    with socket.socket(fileno=handle) as connection, suppress(OSError):
        answer_frames(connection)


def answer_frames(connection: socket.socket) -> None:
    """Load what the first frame names, and answer the others until the connection closes.

    Args:
        connection: to the server.

    Raises:
        OSError: the server ended while it was written to.
    """
    first = receive_frame(connection)
    if first is None:
        return
    sys.path.extend(folder for folder in first[0]["path"] if folder not in sys.path)
    try:
        loaded = load_subject(Subject(**first[0]["subject"]))
    except Exception as error:
        send_frame(connection, {"failed": _line(error), "code": _code(error)})
        return
    send_frame(connection, loaded.description())
    while (frame := receive_frame(connection)) is not None:
        head, body = _answered(loaded, *frame)
        send_frame(connection, head, body)
        del frame, head, body


def _answered(loaded: LoadedSubject, head: dict[str, Any], body: bytearray) -> Any:
    try:
        if head["kind"] == "images":
            arrays = loaded.images(split_bytes(memoryview(body), head["rows"]))
        else:
            x = np.frombuffer(body, np.dtype(loaded.dtype)).reshape(head["shape"])
            arrays = loaded.tensors(x)
    except DataError as error:
        return {"error": _line(error), "status": 400}, b""
    except Exception as error:
        _LOG.exception("a batch failed")
        return {"error": type(error).__name__, "status": 500}, b""
    described, packed = pack(arrays)
    return {"arrays": described}, packed


def _code(error: Exception) -> int:
    if isinstance(error, ArtifactError | ModelMismatchError):
        return 3
    return 2 if isinstance(error, GradoodError) else 5


def _line(error: Exception) -> str:
    known = isinstance(error, GradoodError | ImportError | OSError)
    text = str(error) if known else f"{type(error).__name__}: {error}"
    return " ".join(text.split())[:1000]


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr)
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main(int(sys.argv[1]))
