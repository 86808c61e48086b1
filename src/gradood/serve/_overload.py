"""Refusal of requests under overload, before their route, and where it can be before a parser."""

import json
from typing import TYPE_CHECKING, Any

from starlette.applications import Starlette

from gradood.serve._expected import size_of
from gradood.serve._refusal import Refusal

if TYPE_CHECKING:
    from gradood.serve._service import Service

__all__ = ["DRAINED", "OverloadRefusal", "overload_protocol"]

DRAINED = 2**20
"""Bytes of a refused body that the server reads to its end; above, the connection is closed."""


_MESSAGE = Refusal(503, "too many requests are waiting; come back later.", retry=1).message
_BODY = json.dumps({"error": _MESSAGE}).encode()
_ANSWER = (
    b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\n"
    b"retry-after: 1\r\ncontent-length: %d\r\n\r\n%s" % (len(_BODY), _BODY)
)
_INTERNALS = ("_unset_keepalive_if_required", "timeout_keep_alive_handler", "on_message_begin")
_OTHERWISE = (b"transfer-encoding:", b"expect:", b"upgrade:", b"connection:", b" ", b"\t")
"""Beginnings of lines of a head that change how a message ends, or what comes after it."""


class OverloadRefusal:
    """Refuses requests for which the queue is too long, at a tenth of the cost of a route.

    Under overload most requests are refused, on the processor that is to compute the others.
    """

    def __init__(self, app: Starlette, service: "Service") -> None:
        self._app, self._service = app, service
        self._count = service.metrics.requests.labels("refused at once", "503")

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http" or not self._refuses(scope):
            await self._app(scope, receive, send)
            return
        self._count.inc()
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(_BODY)).encode()),
            (b"retry-after", b"1"),
        ]
        length = size_of(dict(scope["headers"]).get(b"content-length", b"").decode("latin-1"))
        if length is None or length > DRAINED:
            headers.append((b"connection", b"close"))
        await send({"type": "http.response.start", "status": 503, "headers": headers})
        await send({"type": "http.response.body", "body": _BODY})

    def _refuses(self, scope: Any) -> bool:
        return scope["method"] == "POST" and _posted(scope["path"]) and refusing(self._service)


def refusing(service: "Service") -> bool:
    """Whether whatever is posted now is refused before anything else is looked at."""
    # Keys come first: a stranger is not told how busy it is.
    return not service.options.keys and service.gate.closed()


def overload_protocol(service: "Service") -> Any:
    """A class of uvicorn's protocol that refuses whole messages by their bytes; else ``"auto"``.

    A refusal costs a quarter of what parser, task and application take together: at ten times the
    capacity those took 15 % of the processor. A message is whole if it came in one piece, after
    all before it was answered, and is of the plainest form; any other goes the usual way, to
    `OverloadRefusal`. Names of uvicorn that are no part of its interface are looked for first.
    """
    try:
        from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
    except ImportError:
        return "auto"
    if not all(hasattr(HttpToolsProtocol, name) for name in _INTERNALS):
        return "auto"
    count = service.metrics.requests.labels("refused at once", "503")

    class Protocol(HttpToolsProtocol):
        between = True
        """Whether the next byte is the first of a message."""

        def data_received(self, data: bytes) -> None:
            if not (self.between and refusing(service) and self._idle() and whole_post(data)):
                super().data_received(data)
                return
            count.inc()
            self._unset_keepalive_if_required()
            self.transport.write(_ANSWER)
            self.timeout_keep_alive_task = self.loop.call_later(
                self.timeout_keep_alive, self.timeout_keep_alive_handler
            )

        def on_message_begin(self) -> None:
            self.between = False
            super().on_message_begin()

        def on_message_complete(self) -> None:
            self.between = True
            super().on_message_complete()

        def _idle(self) -> bool:
            answered = self.cycle is None or self.cycle.response_complete
            return answered and not self.pipeline and not self.transport.is_closing()

    return Protocol


def whole_post(data: bytes) -> bool:
    """Whether some bytes are one request to score, from its first to its last, and no more."""
    end = data.find(b"\r\n\r\n")
    if end < 0 or not data.startswith(b"POST "):
        return False
    first, _, rest = data[:end].partition(b"\r\n")
    words, lines = first.split(b" "), rest.lower().split(b"\r\n")
    if len(words) != 3 or words[2] != b"HTTP/1.1" or not _posted(words[1].decode("latin-1")):
        return False
    lengths = [line for line in lines if line.startswith(b"content-length:")]
    odd = any(line.startswith(_OTHERWISE) and line != b"connection: keep-alive" for line in lines)
    size = size_of(lengths[0][15:].strip().decode("latin-1")) if len(lengths) == 1 else None
    if odd or size is None or any(b"\n" in line or b"\r" in line for line in lines):
        return False
    return len(data) == end + 4 + size


def _posted(path: str) -> bool:
    return path.endswith("/infer") or path == "/score"
