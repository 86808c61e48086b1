"""A calibrated detector, and workers that are threads: no test pays for a start of torch."""

import asyncio
import socket
import threading
from contextlib import suppress

import pytest
import torch

import gradood
from gradood.models import REFERENCES, build
from gradood.serve import StartError, Subject
from gradood.serve import _pool as pool
from gradood.serve import _worker_process as worker_process
from gradood.serve._frames import read_frame, write_frame
from gradood.serve._worker import answer_frames


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("serve")
    torch.manual_seed(0)
    model = build("digits_net").eval()
    torch.save(model.state_dict(), folder / "weights.pt")
    preprocess = dict(REFERENCES["digits_net"].preprocess)
    monitor = gradood.Monitor(
        model, ["energy", "msp"], combine="fisher", preprocess=preprocess, progress=False
    )
    monitor.calibrate(torch.rand(80, 1, 8, 8), fpr=0.1)
    monitor.save(folder / "detector.safetensors")
    subject = Subject(
        detector=str(folder / "detector.safetensors"),
        model="digits_net",
        weights=str(folder / "weights.pt"),
    )
    return subject, monitor


class Thread:
    """Stands for the process of a worker."""

    returncode = None
    killed = 0

    def __init__(self, connection):
        self.connection = connection

    def send_signal(self, number):
        Thread.killed += 1
        self.connection.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def threads(monkeypatch):
    async def start(subject):
        ours, theirs = socket.socketpair()

        def run():
            with theirs, suppress(OSError):
                answer_frames(theirs)

        threading.Thread(target=run, daemon=True).start()
        ours.setblocking(False)
        reader, writer = await asyncio.open_connection(sock=ours)
        await write_frame(writer, {"subject": subject.to_plain(), "path": []})
        about, _ = await read_frame(reader)
        if "failed" in about:
            writer.close()
            raise StartError(about["failed"], about["code"])
        return pool.Worker(Thread(ours), reader, writer, about)

    monkeypatch.setattr(pool, "start_worker", start)
    monkeypatch.setattr(worker_process, "end_process", lambda thread: thread.send_signal(9))
