"""Calls of the Open Inference Protocol over gRPC, beside the routes of HTTP."""

import asyncio
import errno
import logging
import os
import secrets
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from gradood._io.optional import optional_module
from gradood.serve._admission import known_key
from gradood.serve._catalog import Catalog
from gradood.serve._grpc_messages import INSTALL, messages
from gradood.serve._grpc_tensors import answer_message, request_of
from gradood.serve._protocol import Request
from gradood.serve._refusal import Refusal

if TYPE_CHECKING:
    from gradood.serve._service import Service

__all__ = ["GrpcServer"]

_LOG = logging.getLogger(__name__)
_SERVICE, _HEALTH = "inference.GRPCInferenceService", "grpc.health.v1.Health"
_OPEN = ("ServerLive", "ServerReady", "Check")
_CODES = {
    **{400: "INVALID_ARGUMENT", 401: "UNAUTHENTICATED", 404: "NOT_FOUND", 408: "CANCELLED"},
    **{413: "INVALID_ARGUMENT", 499: "CANCELLED", 503: "UNAVAILABLE", 504: "DEADLINE_EXCEEDED"},
}
_SERVING, _NOT_SERVING = 1, 2
Read = Callable[[str], Awaitable[Any]]
"""Gives the message of a call, of the class named."""
Call = Callable[[Read, Any], Awaitable[Any]]


class GrpcServer:
    """A port at which the service is asked over gRPC, in the event loop that runs.

    Args:
        service: that answers.
        host: address to listen at.
        port: to listen at; 0 takes a free one.

    Attributes:
        port: that it listens at.

    Raises:
        OSError: the port is taken.
        ModuleNotFoundError: grpcio or protobuf is not installed.
    """

    def __init__(self, service: "Service", host: str, port: int) -> None:
        os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # What goes wrong is told by us.
        grpc: Any = optional_module("grpc", "grpcio", "speaks gRPC", INSTALL)
        messages()
        limits = service.options.limits
        self._server = grpc.aio.server(
            options=(
                ("grpc.so_reuseport", 0),  # Else a second server would share a taken port.
                ("grpc.max_receive_message_length", limits.max_body),
                ("grpc.max_metadata_size", 2**14),
            ),
            # More are refused by the library; those within the gate's own limit, by the gate.
            maximum_concurrent_rpcs=2 * limits.max_requests,
        )
        calls = _Calls(grpc, service)
        for name, methods in calls.services().items():
            handler = grpc.method_handlers_generic_handler(name, methods)
            self._server.add_generic_rpc_handlers((handler,))
        address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        try:
            self.port = self._server.add_insecure_port(address)
        except RuntimeError:
            self.port = 0
        if self.port == 0:
            raise OSError(
                errno.EADDRINUSE, f"cannot listen at {host} port {port} for gRPC; name another."
            )

    async def start(self) -> None:
        """Take calls."""
        await self._server.start()

    async def stop(self, grace: float) -> None:
        """Take no more calls, and let those that were begun be answered.

        Args:
            grace: seconds for that.
        """
        await self._server.stop(grace)


class _Calls:
    """One method for each call."""

    def __init__(self, grpc: Any, service: "Service") -> None:
        self._grpc, self._service = grpc, service
        self._catalog = Catalog(service)
        self._messages = messages()

    def services(self) -> dict[str, dict[str, Any]]:
        """Handlers by method, by service.

        All take a stream of messages, of which clients send one: so that keys and the length of the
        queue are looked at before the message is read.
        """
        inference: dict[str, Call] = {
            "ServerLive": self._live,
            "ServerReady": self._ready,
            "ModelReady": self._model_ready,
            "ServerMetadata": self._server,
            "ModelMetadata": self._model,
            "ModelInfer": self._infer,
        }
        made = self._grpc.stream_unary_rpc_method_handler
        return {
            service: {name: made(self._guarded(service, name, call)) for name, call in some.items()}
            for service, some in ((_SERVICE, inference), (_HEALTH, {"Check": self._check}))
        }

    def _guarded(self, of: str, name: str, call: Call) -> Any:
        """A call behind the key, whose refusals are codes and which is counted."""
        service, path = self._service, f"/{of}/{name}"

        async def run(_: Any, context: Any) -> bytes:
            start, code = time.monotonic(), "OK"
            refusal: Refusal | None = None
            try:
                if name not in _OPEN:
                    self._check_key(context)
                answer = await call(self._reader(context), context)
                return answer.SerializeToString()
            except Refusal as error:
                refusal, code = error, error.grpc or _CODES.get(error.status, "INTERNAL")
            except asyncio.CancelledError:
                code = "CANCELLED"
                raise
            except Exception:
                number = secrets.token_hex(6)
                _LOG.exception("request %s failed", number)
                refusal, code = Refusal(500, f"internal error, request {number}."), "INTERNAL"
            finally:
                service.metrics.requests.labels(path, code).inc()
                if name == "ModelInfer":
                    service.metrics.seconds.observe(time.monotonic() - start)
            # The name that gRPC has for a time after which to come back.
            wait = None if refusal.retry is None else str(max(1, round(refusal.retry * 1000)))
            trailing = () if wait is None else (("grpc-retry-pushback-ms", wait),)
            await context.abort(self._grpc.StatusCode[code], refusal.message, trailing)
            raise AssertionError("a call that is refused has ended")

        return run

    def _check_key(self, context: Any) -> None:
        keys = self._service.options.keys
        given = dict(context.invocation_metadata() or ()).get("authorization", "")
        if keys and not known_key(keys, given if isinstance(given, str) else ""):
            raise Refusal(401, "no key, or an unknown one; send authorization: Bearer KEY.")

    def _reader(self, context: Any) -> Read:
        async def read(name: str) -> Any:
            limits = self._service.options.limits
            try:
                async with asyncio.timeout(limits.read_timeout):
                    data, more = await context.read(), None
                    if isinstance(data, bytes):
                        more = await context.read()  # The end, which clients send with it.
            except TimeoutError as error:
                raise Refusal(408, "the message did not come in time.") from error
            if not isinstance(data, bytes) or isinstance(more, bytes):
                # The code that gRPC's doc/statuscodes.md has for another number of messages.
                count = "several messages" if isinstance(data, bytes) else "no message"
                text = f"there is {count}; expected one {name}."
                raise Refusal(400, text, grpc="UNIMPLEMENTED")
            try:
                return getattr(self._messages, name).FromString(data)
            except Exception as error:  # Of a class that protobuf moves about.
                raise Refusal(400, "the message is none of the protocol.") from error

        return read

    # -- about the server and its models ------------------------------------------------------

    async def _live(self, read: Read, context: Any) -> Any:
        return self._messages.ServerLiveResponse(live=True)

    async def _ready(self, read: Read, context: Any) -> Any:
        return self._messages.ServerReadyResponse(ready=self._service.ready)

    async def _check(self, read: Read, context: Any) -> Any:
        """Health as the probes of Kubernetes ask for it."""
        asked = await read("HealthCheckRequest")
        if asked.service not in ("", _SERVICE):
            raise Refusal(404, f"no service of that name; there is {_SERVICE}.")
        status = _SERVING if self._service.ready else _NOT_SERVING
        return self._messages.HealthCheckResponse(status=status)

    async def _server(self, read: Read, context: Any) -> Any:
        return self._messages.ServerMetadataResponse(**self._catalog.server())

    async def _model_ready(self, read: Read, context: Any) -> Any:
        asked = await read("Named")
        self._catalog.takes_images(asked.name, asked.version or None)
        return self._messages.ModelReadyResponse(ready=self._service.ready)

    async def _model(self, read: Read, context: Any) -> Any:
        asked = await read("Named")
        found = self._catalog.model(asked.name, asked.version or None)
        return self._messages.ModelMetadataResponse(**found)

    # -- answers ------------------------------------------------------------------------------

    async def _infer(self, read: Read, context: Any) -> Any:
        name = ""

        async def asked() -> tuple[Request, int]:
            nonlocal name
            message = await read("ModelInferRequest")
            name = message.model_name
            images = self._catalog.takes_images(name, message.model_version or None)
            limit = self._service.options.limits.max_json
            request = request_of(message, self._catalog.expected(images), limit)
            return request, message.ByteSize()

        self._catalog.current()
        request, arrays, version = await self._service.admit(None, asked, _stays)
        return answer_message(request, arrays, name, version)


async def _stays() -> None:
    """A client that goes cancels the call, and with it whatever waits for the answer."""
    await asyncio.get_running_loop().create_future()
