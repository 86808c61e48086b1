"""The process of a server: its socket, its signals, and how it ends."""

import asyncio
import contextlib
import ctypes
import logging
import signal
import socket
import struct
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from gradood._io.optional import optional_module
from gradood.errors import GradoodError
from gradood.serve._admission import check_exposure
from gradood.serve._options import Options
from gradood.serve._service import Service
from gradood.serve._subject import Subject

__all__ = ["serve"]

_LOG = logging.getLogger(__name__)
_LATE = 0.25
"""Seconds in which a request may still come over a connection that was taken."""
_INSTALL = 'pip install "gradood[serve]"'
_ATTACH_FILTER, _RETURN = 26, 6
"""SO_ATTACH_FILTER of Linux, and the instruction that gives how much of a packet is kept."""


def serve(
    subject: Subject,
    options: Options,
    *,
    insecure: bool = False,
    announce: Callable[[str], None] = _LOG.warning,
) -> int:
    """Serve until SIGTERM or SIGINT; SIGHUP takes over the detector's file as it is then.

    Args:
        subject: what is served.
        options: of the server.
        insecure: allow an address that others reach, without a key.
        announce: is told where the server listens, once it is ready.

    Returns:
        0 after a signal, once all that was begun is answered; 70 if workers ended again and again.

    Raises:
        ConfigError: it could be reached by others without a key.
        ArtifactError: the detector's file is damaged.
        StartError: a worker cannot load the model.
        OSError: the port is taken.
        ModuleNotFoundError: a package of the extra ``serve`` is missing.
    """
    check_exposure(options.host, keys=bool(options.keys), insecure=insecure)
    uvicorn = optional_module("uvicorn", "uvicorn", "speaks HTTP", _INSTALL)
    optional_module("starlette", "starlette", "routes requests", _INSTALL)
    if subject.detector is not None:
        from gradood.artifact import check

        check(subject.detector)
    with _bound(options.host, options.port) as listening:
        return asyncio.run(_run(uvicorn, subject, options, listening, announce))


@contextlib.contextmanager
def _bound(host: str, port: int) -> Iterator[socket.socket]:
    """A socket of our own: a taken port is told before anything is loaded."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # With its protocol named, asyncio turns Nagle's algorithm off, which costs 40 ms an answer.
    with socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP) as found:
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            found.bind((host, port))
            found.listen(2048)
        except OSError as error:
            raise OSError(
                error.errno, f"cannot listen at {host} port {port}: {error.strerror}; name another."
            ) from error
        yield found


async def _run(
    uvicorn: Any,
    subject: Subject,
    options: Options,
    listening: socket.socket,
    announce: Callable[[str], None],
) -> int:
    from gradood.serve._app import make_app
    from gradood.serve._grpc import GrpcServer
    from gradood.serve._overload import overload_protocol

    service = Service(subject, options)
    config = uvicorn.Config(
        make_app(service),
        **{"log_config": None, "access_log": False, "lifespan": "off", "server_header": False},
        http=overload_protocol(service),
        proxy_headers=False,  # Who asks is of no use here, and to read it costs each request.
        timeout_graceful_shutdown=max(1, int(options.grace)),
        timeout_keep_alive=75,  # Longer than that of proxies, which else write to a closed end.
    )
    server = uvicorn.Server(config)
    server.capture_signals = contextlib.nullcontext  # The signals are ours: uvicorn exits 143.
    loop = asyncio.get_running_loop()
    swaps: set[asyncio.Task[bool]] = set()

    def hang_up() -> None:
        task = loop.create_task(service.swap())
        swaps.add(task)
        task.add_done_callback(swaps.discard)

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, service.exit.set)
    loop.add_signal_handler(signal.SIGHUP, hang_up)
    calls = None if options.grpc is None else GrpcServer(service, options.host, options.grpc)
    serving = loop.create_task(server.serve(sockets=[listening]))
    try:
        if calls is not None:
            await calls.start()
        await _until(service.start(), service.exit)
        if not service.exit.is_set():
            port = listening.getsockname()[1]
            also = "" if calls is None else f", gRPC at {options.host}:{calls.port}"
            announce(f"serving {options.name} at http://{options.host}:{port}{also}")
        tending = loop.create_task(service.tend())
        await service.exit.wait()
        tending.cancel()
    finally:
        # Whoever is connected is answered; others, and the next request, go elsewhere.
        service.stopping = True
        await _close(getattr(server, "servers", ()), listening, loop)
        await asyncio.sleep(_LATE)
        ending = None if calls is None else loop.create_task(calls.stop(options.grace))
        await service.stop()
        server.should_exit = True
        await serving
        if ending is not None:
            await ending
    return 70 if service.broken else 0


def _deaf(listening: socket.socket) -> None:
    """Let no connection begin between the last one that is accepted and the close, on Linux.

    One that begins is asked again by its client after a second, and refused.
    """
    if sys.platform != "linux":
        return
    none = ctypes.create_string_buffer(struct.pack("HBBI", _RETURN, 0, 0, 0))
    program = struct.pack("HL", 1, ctypes.addressof(none))
    with contextlib.suppress(OSError):
        listening.setsockopt(socket.SOL_SOCKET, _ATTACH_FILTER, program)


async def _close(
    servers: Iterable[asyncio.Server], listening: socket.socket, loop: asyncio.AbstractEventLoop
) -> None:
    """Accept no more, but what waits to be accepted, which closing would reset."""
    loop.remove_reader(listening)
    await asyncio.sleep(0)  # A connection that was accepted is lost if its server closes first.
    await asyncio.sleep(0)
    _deaf(listening)
    taking = []
    for each in servers:
        # No part of asyncio's interface: without it, what waits is reset.
        protocol = getattr(each, "_protocol_factory", None)
        with contextlib.suppress(OSError):  # Nobody waits, or the socket is closed.
            while protocol is not None:
                connection, _ = listening.accept()
                taking.append(loop.connect_accepted_socket(protocol, connection))
        each.close()
    await asyncio.gather(*taking, return_exceptions=True)


async def _until(work: Any, exit: asyncio.Event) -> None:
    """Some work, given up when it is time to go."""
    task, leaving = asyncio.ensure_future(work), asyncio.ensure_future(exit.wait())
    await asyncio.wait({task, leaving}, return_when=asyncio.FIRST_COMPLETED)
    leaving.cancel()
    if task.done():
        task.result()
        return
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError, GradoodError):
        await task
