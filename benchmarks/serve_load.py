"""Load on a server over HTTP/1.1, without a client library: its process must cost little.

    python benchmarks/serve_load.py PORT --seconds 10 [--rate 300 | --concurrency 8] \\
        [--body FILE --length N] [--echo PORT] [--grpc PORT]

Prints JSON: answers by status with percentiles of their latency in ms, and of GETs of liveness and
of an echo server that were sent beside, 20 a second. With --rate requests are sent at their times
whatever the answers (open loop), with --concurrency each waits for the one before. With --grpc
the requests are calls of gRPC, with grpcio, whose message is the body.
"""

import argparse
import asyncio
import json
import time
from collections import defaultdict
from collections.abc import Callable
from itertools import cycle
from typing import Any

PATH = "/v2/models/detector/infer"
IDLE = 20.0
"""Seconds after which a connection is not used again: servers close what is idle."""
CHANNELS = 16
"""Of gRPC, each of which carries many calls at once."""


class Connection:
    """One connection, kept alive."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.streams: Any = None
        self.used = 0.0

    async def ask(self, request: bytes) -> tuple[int, bytes, bytes]:
        """Status, head and body."""
        if time.monotonic() - self.used > IDLE:
            self.close()
        self.used = time.monotonic()
        if self.streams is None:
            self.streams = await asyncio.open_connection("127.0.0.1", self.port)
        reader, writer = self.streams
        try:
            writer.write(request)
            await writer.drain()
            head = await reader.readuntil(b"\r\n\r\n")
            size = 0
            for line in head.lower().split(b"\r\n"):
                if line.startswith(b"content-length:"):
                    size = int(line.split(b":")[1])
            body = await reader.readexactly(size)
        except (OSError, asyncio.IncompleteReadError):
            self.close()
            raise
        if b"connection: close" in head.lower():
            self.close()
        return int(head[9:12]), head, body

    def close(self) -> None:
        if self.streams is not None:
            self.streams[1].close()
            self.streams = None


class Calls:
    """One channel of gRPC, of which 200 is an answer and a refusal the name of its code."""

    def __init__(self, port: int) -> None:
        import grpc

        self.error = grpc.aio.AioRpcError
        channel = grpc.aio.insecure_channel(
            f"127.0.0.1:{port}", options=[("grpc.use_local_subchannel_pool", 1)]
        )
        self.infer = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")

    async def ask(self, message: bytes) -> tuple[int | str, bytes, bytes]:
        try:
            return 200, b"", await self.infer(message, timeout=30)
        except self.error as error:
            return error.code().name, b"", b""


def post(body: bytes, length: int, path: str = PATH) -> bytes:
    """A request as bytes."""
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n"
    head += f"Inference-Header-Content-Length: {length}\r\n\r\n"
    return head.encode() + body


class Load:
    """Requests sent, and what came of them."""

    def __init__(self, connect: Callable[[], Any], request: bytes) -> None:
        self.connect, self.request = connect, request
        self.times: dict[str, list[float]] = defaultdict(list)
        self.versions: set[str] = set()
        self.free: list[Any] = []

    async def one(self, connection: Any = None) -> None:
        mine = connection or (self.free.pop() if self.free else self.connect())
        start = time.perf_counter()
        try:
            status, _, body = await mine.ask(self.request)
            name = str(status)
            if status == 200 and b'"model_version": "' in body:
                self.versions.add(body.split(b'"model_version": "')[1][:12].decode())
        except (OSError, asyncio.IncompleteReadError):
            name = "lost"
        self.times[name].append(time.perf_counter() - start)
        if connection is None:
            self.free.append(mine)

    async def open_loop(self, rate: float, seconds: float) -> None:
        start, sent, tasks = time.perf_counter(), 0, set()
        while (now := time.perf_counter() - start) < seconds:
            while sent < now * rate and len(tasks) < 512:
                task = asyncio.create_task(self.one())
                tasks.add(task)
                task.add_done_callback(tasks.discard)
                sent += 1
            await asyncio.sleep(0.002)
        if tasks:
            await asyncio.wait(tasks, timeout=30)

    async def closed_loop(self, concurrency: int, seconds: float) -> None:
        end = time.perf_counter() + seconds

        async def client() -> None:
            connection = self.connect()
            while time.perf_counter() < end:
                await self.one(connection)

        await asyncio.gather(*(client() for _ in range(concurrency)))


async def probes(port: int, path: str, seconds: float, times: dict[str, list[float]]) -> None:
    """GETs, 20 a second."""
    connection, end = Connection(port), time.perf_counter() + seconds
    while time.perf_counter() < end:
        start = time.perf_counter()
        try:
            status, _, _ = await connection.ask(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        except (OSError, asyncio.IncompleteReadError):
            status = 0
        times[str(status)].append(time.perf_counter() - start)
        await asyncio.sleep(0.05)


def summary(times: dict[str, list[float]]) -> dict[str, Any]:
    """Count and percentiles, in ms."""
    made = {}
    for name, values in sorted(times.items()):
        ordered = sorted(values)
        quantiles = {
            f"p{q}": round(1e3 * ordered[min(len(ordered) - 1, len(ordered) * q // 100)], 2)
            for q in (50, 99)
        }
        made[name] = {"count": len(values), **quantiles}
    return made


async def main(args: argparse.Namespace) -> dict[str, Any]:
    """The load, and probes beside it."""
    with open(args.body, "rb") as file:
        body = file.read()
    if args.grpc:
        channels = cycle([Calls(args.grpc) for _ in range(CHANNELS)])
        load = Load(lambda: next(channels), body)
    else:
        load = Load(lambda: Connection(args.port), post(body, args.length))
    live: dict[str, list[float]] = defaultdict(list)
    echo: dict[str, list[float]] = defaultdict(list)
    work: list[Any] = [probes(args.port, "/v2/health/live", args.seconds, live)]
    if args.echo:
        work.append(probes(args.echo, "/", args.seconds, echo))
    if args.rate:
        work.append(load.open_loop(args.rate, args.seconds))
    else:
        work.append(load.closed_loop(args.concurrency, args.seconds))
    start = time.perf_counter()
    await asyncio.gather(*work)
    return {
        "seconds": time.perf_counter() - start,
        "answers": summary(load.times),
        "live": summary(live),
        "echo": summary(echo),
        "versions": sorted(load.versions),
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("port", type=int)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--rate", type=float, default=0)
    parser.add_argument("--concurrency", type=int, default=1)
    parser.add_argument("--body", required=True)
    parser.add_argument("--length", type=int, default=0)
    parser.add_argument("--grpc", type=int, default=0)
    parser.add_argument("--echo", type=int, default=0)
    print(json.dumps(asyncio.run(main(parser.parse_args()))))
