"""Refusal of requests under overload, before their route."""

import json
from typing import TYPE_CHECKING, Any

from starlette.applications import Starlette

from gradood.serve._refusal import Refusal

if TYPE_CHECKING:
    from gradood.serve._service import Service

__all__ = ["DRAINED", "OverloadRefusal"]

DRAINED = 2**20
"""Bytes of a refused body that the server reads to its end; above, the connection is closed."""


class OverloadRefusal:
    """Refuses requests for which the queue is too long, at a tenth of the cost of a route.

    Under overload most requests are refused, on the processor that is to compute the others.
    """

    def __init__(self, app: Starlette, service: "Service") -> None:
        self._app, self._service = app, service
        refused = Refusal(503, "too many requests are waiting; come back later.", retry=1)
        self._body = json.dumps({"error": refused.message}).encode()
        self._count = service.metrics.requests.labels("refused at once", "503")

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http" or not self._refuses(scope):
            await self._app(scope, receive, send)
            return
        self._count.inc()
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(self._body)).encode()),
            (b"retry-after", b"1"),
        ]
        given = dict(scope["headers"]).get(b"content-length", b"")
        if not given.isdigit() or int(given) > DRAINED:
            headers.append((b"connection", b"close"))
        await send({"type": "http.response.start", "status": 503, "headers": headers})
        await send({"type": "http.response.body", "body": self._body})

    def _refuses(self, scope: Any) -> bool:
        service = self._service
        if scope["method"] != "POST" or service.options.keys:
            return False  # Keys come first: a stranger is not told how busy it is.
        posted = scope["path"].endswith("/infer") or scope["path"] == "/score"
        return posted and service.gate.closed()
