"""Frames between the server and a worker: a JSON head and raw bytes, without pickle."""

import asyncio
import json
import socket
import struct
from typing import Any

__all__ = ["read_frame", "receive_frame", "send_frame", "write_frame"]

_LENGTHS = struct.Struct("<IQ")


def _encoded(head: dict[str, Any], body: bytes) -> bytes:
    text = json.dumps(head, allow_nan=False).encode()
    return _LENGTHS.pack(len(text), len(body)) + text


def send_frame(connection: socket.socket, head: dict[str, Any], body: bytes = b"") -> None:
    """Send a frame, blocking.

    Args:
        connection: to the other process.
        head: plain values.
        body: what they describe.

    Raises:
        OSError: the other process is gone.
    """
    connection.sendall(_encoded(head, body))
    if body:
        connection.sendall(body)


def receive_frame(connection: socket.socket) -> tuple[dict[str, Any], bytearray] | None:
    """The next frame, blocking; None once the other process has closed.

    Args:
        connection: to the other process.
    """
    lengths = _received(connection, _LENGTHS.size)
    if lengths is None:
        return None
    head_size, body_size = _LENGTHS.unpack(lengths)
    head, body = _received(connection, head_size), _received(connection, body_size)
    return None if head is None or body is None else (json.loads(head), body)


def _received(connection: socket.socket, size: int) -> bytearray | None:
    data = bytearray(size)
    view = memoryview(data)
    done = 0
    while done < size:
        count = connection.recv_into(view[done:])
        if count == 0:
            return None
        done += count
    return data


async def write_frame(
    writer: asyncio.StreamWriter, head: dict[str, Any], body: bytes = b""
) -> None:
    """`send_frame` for an event loop."""
    writer.write(_encoded(head, body))
    if body:
        writer.write(body)
    await writer.drain()


async def read_frame(reader: asyncio.StreamReader) -> tuple[dict[str, Any], bytes]:
    """`receive_frame` for an event loop.

    Raises:
        asyncio.IncompleteReadError: the other process has closed.
        OSError: it was ended with data on the way.
    """
    head_size, body_size = _LENGTHS.unpack(await reader.readexactly(_LENGTHS.size))
    head = json.loads(await reader.readexactly(head_size))
    return head, await reader.readexactly(body_size)
