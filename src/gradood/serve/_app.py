"""Routes of the server."""

import json
import logging
import secrets
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from gradood.serve._admission import known_key, read_body
from gradood.serve._arrays import packed_bytes
from gradood.serve._catalog import Catalog
from gradood.serve._expected import size_of
from gradood.serve._overload import DRAINED, OverloadRefusal
from gradood.serve._protocol import BINARY_LENGTH, answer, parse
from gradood.serve._protocol import Request as Asked
from gradood.serve._refusal import Refusal

if TYPE_CHECKING:
    from gradood.serve._service import Service

__all__ = ["make_app"]

_LOG = logging.getLogger(__name__)
_OPEN = ("/v2/health/live", "/v2/health/ready")
_SCORED = (b"ok", b"nonfinite_input", b"nonfinite_score")
Handler = Callable[[Request], Awaitable[Response]]


def make_app(service: "Service") -> Any:
    """The application, of ASGI.

    Args:
        service: that answers.
    """
    routes = _Routes(service)
    model = "/v2/models/{model}"
    version = f"{model}/versions/{{version}}"
    get = [
        ("/v2", routes.server),
        ("/v2/health/live", routes.live),
        ("/v2/health/ready", routes.ready),
        ("/metrics", routes.metrics),
        ("/watch", routes.watch),
        *((path, routes.model) for path in (model, version)),
        *((f"{path}/ready", routes.model_ready) for path in (model, version)),
    ]
    post = [
        *((f"{path}/infer", routes.infer) for path in (model, version)),
        ("/score", routes.score),
    ]
    app = Starlette(
        routes=[
            *(Route(path, routes.guarded(path, handler), methods=["GET"]) for path, handler in get),
            *(Route(p, routes.guarded(p, handler), methods=["POST"]) for p, handler in post),
        ],
        exception_handlers={HTTPException: _unknown_route},
    )
    return OverloadRefusal(app, service)


async def _unknown_route(request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    text = "no such address" if status == 404 else "this address takes another method"
    return JSONResponse({"error": text}, status)


class _Routes:
    """One method for each route."""

    def __init__(self, service: "Service") -> None:
        self._service = service
        self._catalog = Catalog(service)

    def guarded(self, path: str, handler: Handler) -> Handler:
        """A handler behind the key, whose refusals are answers and whose requests are counted."""
        service = self._service

        async def run(request: Request) -> Response:
            start = time.monotonic()
            try:
                self._check_key(path, request)
                response = await handler(request)
            except Refusal as refusal:
                response = _refused(refusal, request)
            except ClientDisconnect:
                response = JSONResponse({"error": "the client is gone."}, 499)
            except Exception:
                number = secrets.token_hex(6)
                _LOG.exception("request %s failed", number)
                response = JSONResponse({"error": f"internal error, request {number}."}, 500)
            if service.stopping:
                response.headers["connection"] = "close"
            service.metrics.requests.labels(path, str(response.status_code)).inc()
            if request.method == "POST":
                service.metrics.seconds.observe(time.monotonic() - start)
            return response

        return run

    def _check_key(self, path: str, request: Request) -> None:
        keys = self._service.options.keys
        if not keys or path in _OPEN:
            return
        if not known_key(keys, request.headers.get("authorization", "")):
            raise Refusal(401, "no key, or an unknown one; send Authorization: Bearer KEY.")

    # -- about the server and its models ------------------------------------------------------

    async def server(self, request: Request) -> Response:
        return JSONResponse(self._catalog.server())

    async def live(self, request: Request) -> Response:
        return JSONResponse({"live": True})

    async def ready(self, request: Request) -> Response:
        ready = self._service.ready
        return JSONResponse({"ready": ready}, 200 if ready else 503)

    async def metrics(self, request: Request) -> Response:
        text, kind = self._service.page()
        return Response(text, headers={"content-type": kind})

    async def watch(self, request: Request) -> Response:
        watching = self._service.watching
        if watching is None:
            raise Refusal(404, "nothing is watched; start the server with --watch FILE.")
        return JSONResponse(watching.watch.to_dict())

    async def model_ready(self, request: Request) -> Response:
        name, version = _named(request)
        self._catalog.takes_images(name, version)
        ready = self._service.ready
        return JSONResponse({"name": name, "ready": ready}, 200 if ready else 503)

    async def model(self, request: Request) -> Response:
        return JSONResponse(self._catalog.model(*_named(request)))

    # -- answers ------------------------------------------------------------------------------

    async def infer(self, request: Request) -> Response:
        name, version = _named(request)
        images = self._catalog.takes_images(name, version)
        given = request.headers.get(BINARY_LENGTH)
        length = None if given is None else size_of(given)
        if given is not None and length is None:
            raise Refusal(400, f"{BINARY_LENGTH} is no number of bytes.")
        limits = self._service.options.limits

        def parsed(body: bytes) -> Asked:
            if min(len(body), len(body) if length is None else length) > limits.max_json:
                raise Refusal(413, f"more JSON than {limits.max_json} bytes; send binary tensors.")
            return parse(body, length, self._catalog.expected(images))

        asked, arrays, version = await self._answered(request, parsed)
        body, headers = answer(asked, arrays, name, version)
        return Response(body, headers=headers)

    async def score(self, request: Request) -> Response:
        """One image, as the body; the answer is a list of one object."""
        self._catalog.check_images()

        def parsed(body: bytes) -> Asked:
            if not body:
                raise Refusal(400, "the body is empty; expected an image file.")
            return Asked(None, "images", 1, (), packed_bytes([body]))

        _, arrays, version = await self._answered(request, parsed)
        if arrays["status"][1][0] not in _SCORED and arrays["label"][1][0] < 0:
            status = arrays["status"][1][0].decode()
            raise Refusal(400, f"the body cannot be used as an image: {status}.")
        row = {
            name: values[0].decode() if kind == "BYTES" else values.tolist()[0]
            for name, (kind, values) in arrays.items()
            if not name.startswith("#")
        }
        return Response(
            json.dumps([{**row, "version": version}], allow_nan=False) + "\n",
            headers={"content-type": "application/json"},
        )

    async def _answered(
        self, request: Request, parsed: Callable[[bytes], Asked]
    ) -> tuple[Asked, Any, str]:
        """Admit a request, read it, and have it answered."""
        length = _length(request)

        async def read() -> tuple[Asked, int]:
            body = await read_body(request, self._service.options.limits)
            return parsed(body), length or len(body)

        return await self._service.admit(length, read, lambda: _disconnected(request))


def _named(request: Request) -> tuple[str, str | None]:
    """Model and version of an address."""
    return request.path_params["model"], request.path_params.get("version")


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _length(request: Request) -> int | None:
    return size_of(request.headers.get("content-length", ""))


def _refused(refusal: Refusal, request: Request) -> Response:
    headers = {}
    if refusal.retry is not None:
        headers["retry-after"] = str(max(1, round(refusal.retry)))
    if refusal.status == 401:
        headers["www-authenticate"] = "Bearer"
    length = _length(request)
    if request.method == "POST" and (length is None or length > DRAINED):
        headers["connection"] = "close"  # Else the server would read on to the end of the body.
    return JSONResponse({"error": refusal.message}, refusal.status, headers)
