"""Requests that are refused at once: by their bytes, or before their route."""

import asyncio
import contextlib
import json

import pytest
import torch
import uvicorn

from gradood.serve import Options
from gradood.serve._app import make_app
from gradood.serve._overload import overload_protocol, whole_post
from gradood.serve._queue import Queue, batch_sizes
from gradood.serve._service import Service

HEAD = b"POST /v2/models/detector/infer HTTP/1.1\r\nHost: x\r\n"


def message(*lines, body=b"{}", head=HEAD):
    return head + b"".join(line + b"\r\n" for line in lines) + b"\r\n" + body


@pytest.mark.parametrize(
    ("data", "whole"),
    [
        (message(b"Content-Length: 2"), True),
        (message(b"content-length:2", b"connection: Keep-Alive"), True),
        (message(b"Content-Length: 2", head=b"POST /score HTTP/1.1\r\n"), True),
        (message(b"Content-Length: 3"), False),
        (message(b"Content-Length: 1"), False),  # More than one message.
        (message(b"Content-Length: 2") * 2, False),
        (message(b"Content-Length: 2", b"Content-Length: 2"), False),
        (message(b"Content-Length: +2"), False),
        (message(b"Content-Length: 2, 2"), False),
        (message(b"Content-Length: " + b"9" * 5000), False),
        (message(b"Content-Length : 2"), False),
        (message(b"Content-Length: 2", b"Transfer-Encoding: chunked"), False),
        (message(b"Content-Length: 2", b"Expect: 100-continue"), False),
        (message(b"Content-Length: 2", b"Connection: close"), False),
        (message(b"Content-Length: 2", b"Connection: upgrade", b"Upgrade: h2c"), False),
        (message(b"X: a", b" b", b"Content-Length: 2"), False),  # A line that goes on.
        (message(b"X: a\nTransfer-Encoding: chunked", b"Content-Length: 2"), False),
        (message(), False),
        (message(b"Content-Length: 2")[:-4], False),
        (message(b"Content-Length: 2", head=HEAD.replace(b"POST", b"GET")), False),
        (message(b"Content-Length: 2", head=HEAD.replace(b"1.1", b"1.0")), False),
        (message(b"Content-Length: 2", head=HEAD.replace(b"infer", b"ready")), False),
        (message(b"Content-Length: 2", head=HEAD.replace(b"infer", b"INFER")), False),
        (b"", False),
    ],
)  # fmt: skip
def test_messages_that_are_refused_by_their_bytes(data, whole):
    assert whole_post(data) is whole


@contextlib.asynccontextmanager
async def listening(files, **options):
    service = Service(files[0], Options(**options))
    await service.start()
    config = uvicorn.Config(
        make_app(service),
        port=0,
        lifespan="off",
        log_config=None,
        access_log=False,
        http=overload_protocol(service),
    )
    server = uvicorn.Server(config)
    server.capture_signals = contextlib.nullcontext
    task = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.01)
    reader, writer = await asyncio.open_connection(*server.servers[0].sockets[0].getsockname())
    try:
        yield service, reader, writer
    finally:
        writer.close()
        server.should_exit = True
        await task
        await service.stop()


async def answer(reader):
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    length = next(
        int(line[15:]) for line in head.lower().split("\r\n") if line.startswith("content-length")
    )
    return int(head[9:12]), head.lower(), await reader.readexactly(length)  # fmt: skip


@pytest.mark.usefixtures("threads")
def test_a_refusal_by_bytes_is_that_of_the_route_and_the_connection_goes_on(files):
    data = {"name": "input", "datatype": "FP32", "shape": [1, 1, 8, 8]}
    body = json.dumps({"inputs": [{**data, "data": torch.rand(64).tolist()}]}).encode()
    length = b"Content-Length: %d" % len(body)

    async def go():
        async with listening(files) as (service, reader, writer):
            plain, handled = message(length, body=body), []

            async def ask(data, closed, parts=1):
                service.gate.closed = lambda: closed
                for part in range(parts):
                    writer.write(data[part * len(data) // parts : (part + 1) * len(data) // parts])
                    await writer.drain()
                    await asyncio.sleep(0.02 if parts > 1 else 0)
                handled.append(await answer(reader))

            await ask(plain, True)
            await ask(plain, False)  # The parser has seen nothing of the first.
            await ask(plain, True, parts=3)
            await ask(plain, True)
            await ask(message(length, b"Connection:  keep-alive", body=body), True)
            await ask(b"GET /v2/health/ready HTTP/1.1\r\nHost: x\r\n\r\n", True)
            refused = service.metrics.requests.labels("refused at once", "503")._value.get()
            return handled, refused

    handled, refused = asyncio.run(go())
    assert [found[0] for found in handled] == [503, 200, 503, 503, 503, 200] and refused == 4
    bodies = {found[2] for found in handled if found[0] == 503}
    assert len(bodies) == 1 and "retry-after: 1" in handled[0][1]
    assert json.loads(bodies.pop())["error"].startswith("too many requests")


@pytest.mark.usefixtures("threads")
def test_keys_are_asked_for_before_it_is_told_how_busy_the_server_is(files):
    async def go():
        async with listening(files, keys=(b"secret",)) as (service, reader, writer):
            service.gate.closed = lambda: True
            writer.write(message(b"Content-Length: 2"))
            return await answer(reader)

    assert asyncio.run(go())[0] == 401


def test_a_uvicorn_that_is_built_otherwise_is_used_as_it_is(monkeypatch):
    from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

    monkeypatch.delattr(HttpToolsProtocol, "timeout_keep_alive_handler")
    assert overload_protocol(None) == "auto"


@pytest.mark.parametrize(
    ("largest", "sizes"),
    [(1, [1]), (2, [1, 2]), (5, [1, 2, 3, 4, 5]), (32, [1, 2, 3, 4, 6, 8, 12, 16, 24, 32])],
)
def test_sizes_of_batch_are_few(largest, sizes):
    assert batch_sizes(largest) == sizes


def test_a_batch_is_of_one_of_those_sizes_and_the_rest_is_next():
    from gradood.serve._queue import Job

    async def go():
        queue, taken = Queue(16, lambda job: None), []
        for count in (11, 5, 40):
            for _ in range(count):
                future = asyncio.get_running_loop().create_future()
                queue.put(Job("tensors", 0, 1, b"", (), None, future))
            while queue.rows:
                batch = await queue.take()
                queue.done(batch)
                taken.append(len(batch))
        future = asyncio.get_running_loop().create_future()
        queue.put(Job("tensors", 0, 7, b"", (), None, future))  # The worker takes it apart.
        taken.append(sum(job.rows for job in await queue.take()))
        return taken

    assert asyncio.run(go()) == [8, 3, 4, 1, 16, 16, 8, 7]
