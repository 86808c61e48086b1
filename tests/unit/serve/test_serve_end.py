"""The end of a server: what waits to be accepted is taken, and nothing after it."""

import asyncio
import socket

from gradood.serve._server import _bound, _close


async def echo(reader, writer):
    writer.write(await reader.readline())
    await writer.drain()
    writer.close()


def ask(client):
    client.sendall(b"asked\n")
    return client.recv(16)


def test_connections_that_wait_are_answered_and_later_ones_refused():
    async def run():
        loop = asyncio.get_running_loop()
        with _bound("127.0.0.1", 0) as listening:
            server = await asyncio.start_server(echo, sock=listening)
            address = listening.getsockname()
            # In one iteration of the loop: nobody has accepted them yet.
            waiting = [socket.create_connection(address, timeout=10) for _ in range(20)]
            await _close([server], listening, loop)
            answers = [await asyncio.to_thread(ask, client) for client in waiting]
            later = socket.socket()
            refused = later.connect_ex(address) != 0
            for client in (*waiting, later):
                client.close()
        return answers, refused

    assert asyncio.run(run()) == ([b"asked\n"] * 20, True)
