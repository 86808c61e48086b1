"""What is let in: keys, a wait that is short enough, and bodies that are small enough."""

import asyncio
import hmac
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gradood.errors import ConfigError
from gradood.serve._queue import Queue
from gradood.serve._refusal import Refusal

if TYPE_CHECKING:
    from starlette.requests import Request

__all__ = ["Gate", "Limits", "check_exposure", "keys_of", "known_key", "read_body"]

_LOOPBACK = ("127.", "localhost", "::1")
_ENCODINGS = {"gzip": 31, "deflate": 15}
_SHORTEST_KEY = 16


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What a client may ask for.

    Attributes:
        max_wait: seconds in the queue, as expected, above which a request is refused.
        max_body: bytes, before and after inflation.
        max_json: bytes of JSON, whose parsing stops all else.
        max_rows: inputs of one request.
        max_requests: that are read, queued or computed at once.
        read_timeout: seconds for a body to come.
    """

    max_wait: float = 0.5
    max_body: int = 64 * 2**20
    max_json: int = 8 * 2**20
    max_rows: int = 1024
    max_requests: int = 1024
    read_timeout: float = 30.0


def keys_of(file: Path) -> tuple[bytes, ...]:
    """The keys in a file, one a line.

    Raises:
        ConfigError: there is none, or one is short.
        OSError: it cannot be read.
    """
    lines = [line.strip() for line in file.read_bytes().splitlines()]
    keys = tuple(line for line in lines if line and not line.startswith(b"#"))
    if not keys or min(map(len, keys)) < _SHORTEST_KEY:
        raise ConfigError(
            f"--api-key-file has {len(keys)} keys; expected at least one, a line each, each of "
            f"{_SHORTEST_KEY} characters or more."
        )
    return keys


def check_exposure(host: str, *, keys: bool, insecure: bool) -> None:
    """Refuse to be reached from outside without a key.

    Raises:
        ConfigError: it would be.
    """
    if not (host.startswith(_LOOPBACK) or keys or insecure):
        raise ConfigError(
            f"--host {host} can be reached by others: give --api-key-file FILE, or --insecure if "
            "something before it tells who may."
        )


def known_key(keys: tuple[bytes, ...], authorization: str) -> bool:
    """Whether a header holds one of the keys, in a time that tells nothing of them."""
    scheme, _, given = authorization.partition(" ")
    text = given.strip().encode("latin-1", "replace") if scheme.lower() == "bearer" else b""
    found = [hmac.compare_digest(key, text) for key in keys]
    return any(found)


class Gate:
    """Lets a request in before its body is read, or refuses it.

    Args:
        limits: of the server.
        queue: whose wait is looked at.
    """

    def __init__(self, limits: Limits, queue: Queue) -> None:
        self._limits, self._queue = limits, queue
        self._bytes = 0.0
        self.requests = 0

    def closed(self) -> bool:
        """Whether the wait is too long, or too many requests are there."""
        return (
            self._queue.expected_wait() > self._limits.max_wait
            or self.requests >= self._limits.max_requests
        )

    def admit(self, length: int | None) -> int:
        """Let a request in.

        Args:
            length: of its body, by its header; None if that does not say.

        Returns:
            Rows that were reserved for it, to be given back by `release`.

        Raises:
            Refusal: its body is too large, or the wait too long.
        """
        if length is not None and length > self._limits.max_body:
            raise Refusal(413, f"the body is larger than {self._limits.max_body} bytes.")
        if self.closed():
            wait = self._queue.expected_wait()
            text = "too many requests are waiting; come back later."
            raise Refusal(503, text, retry=wait, grpc="RESOURCE_EXHAUSTED")
        rows = 1 if length is None or self._bytes == 0 else max(1, round(length / self._bytes))
        rows = min(rows, self._limits.max_rows)
        self._queue.reserved += rows
        self.requests += 1
        return rows

    def read(self, reserved: int, rows: int, length: int) -> None:
        """The body is there: what was reserved is known now."""
        self._queue.reserved -= reserved
        found = length / max(1, rows)
        self._bytes = found if self._bytes == 0 else self._bytes + 0.1 * (found - self._bytes)


async def read_body(request: "Request", limits: Limits) -> bytes:
    """The body of a request, inflated, and never more of it than is allowed.

    Raises:
        Refusal: it is too large, comes too slowly, or its encoding is unknown or broken.
    """
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    state: Any = None
    if encoding not in ("", "identity"):
        if encoding not in _ENCODINGS:
            raise Refusal(415, "the content encoding is none of gzip, deflate and identity.")
        state = zlib.decompressobj(_ENCODINGS[encoding])
    parts: list[bytes] = []
    came = size = 0
    try:
        async with asyncio.timeout(limits.read_timeout):
            async for part in request.stream():
                came += len(part)
                made = part if state is None else state.decompress(part, limits.max_body + 1)
                if state is not None and state.unused_data:
                    raise Refusal(400, f"the body goes on after the end of its {encoding}.")
                parts.append(made)
                size += len(made)
                if max(size, came) > limits.max_body:
                    raise Refusal(413, f"the body is larger than {limits.max_body} bytes.")
    except zlib.error as error:
        raise Refusal(400, f"the body is no {encoding}.") from error
    except TimeoutError as error:
        raise Refusal(408, "the body did not come in time.") from error
    if state is not None and not state.eof:
        raise Refusal(400, f"the {encoding} of the body is cut short.")
    return b"".join(parts)
