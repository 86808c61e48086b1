"""The server as a process: how it starts and ends, and the files for those who run it."""

import asyncio
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

import gradood
from gradood.cli import main
from gradood.models import REFERENCES, build
from gradood.serve import StartError, Subject, _worker_process
from gradood.serve._metrics import Metrics

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def words(tmp_path_factory):
    folder = tmp_path_factory.mktemp("process")
    torch.manual_seed(0)
    model = build("digits_net").eval()
    torch.save(model.state_dict(), folder / "weights.pt")
    preprocess = dict(REFERENCES["digits_net"].preprocess)
    monitor = gradood.Monitor(model, "energy", preprocess=preprocess, progress=False)
    monitor.calibrate(torch.rand(80, 1, 8, 8), fpr=0.1)
    monitor.save(folder / "detector.safetensors")
    files = ["--detector", folder / "detector.safetensors", "--weights", folder / "weights.pt"]
    return ["serve", "--model", "digits_net", *map(str, files)]


@pytest.mark.slow
def test_sigterm_ends_with_0_after_what_was_begun_is_answered(words, tmp_path):
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    server = subprocess.Popen(
        [sys.executable, "-m", "gradood", *words, "--port", str(port)],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    try:
        line = server.stderr.readline()
        assert line == f"serving detector at http://127.0.0.1:{port}\n"
        data = {"name": "input", "datatype": "FP32", "shape": [1, 1, 8, 8], "data": [0.5] * 64}
        request = urllib.request.Request(
            f"http://127.0.0.1:{port}/v2/models/detector/infer",
            json.dumps({"inputs": [data]}).encode(),
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            assert json.load(answer)["model_name"] == "detector"
        start = time.monotonic()
        server.send_signal(signal.SIGTERM)
        assert server.wait(10) == 0
        assert time.monotonic() - start < 5
    finally:
        server.kill()
        server.stderr.close()
        server.wait()


@pytest.mark.parametrize(
    ("change", "code", "said"),
    [
        (["--host", "0.0.0.0"], 2, "--api-key-file"),
        (["--port", "taken"], 5, "cannot listen"),
        (["--port", "8123", "--grpc", "8123"], 2, "are both 8123"),
        (["--detector", "damaged"], 3, "is refused"),
        (["--watch", "state.json", "--onnx", "x.onnx", "--detector", ""], 2, "--watch"),
    ],
)
def test_what_cannot_be_served_is_told_by_exit_codes(words, tmp_path, capsys, change, code, said):
    (tmp_path / "damaged").write_bytes(b"x" * 100)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        names = {"taken": str(taken.getsockname()[1]), "damaged": str(tmp_path / "damaged")}
        given = [*words, *(names.get(word, word) for word in change)]
        if "" in given:
            place = given.index("--detector")
            given = [*given[:place], *given[place + 2 : -2]]
        assert main(given) == code
    assert said in capsys.readouterr().err


def test_rules_and_dashboard_name_metrics_that_there_are():
    metrics = Metrics()
    metrics.watched(False, 0, 1.0, 100.0, 0)
    known = set(re.findall(r"^# TYPE (\S+)", metrics.page()[0].decode(), re.M))
    known |= {f"{name}{end}" for name in known for end in ("_bucket", "_count", "_sum")}
    dashboard = json.loads((ROOT / "deploy" / "grafana.json").read_text())
    texts = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    texts.append((ROOT / "deploy" / "alerts.yml").read_text())
    named = {name for text in texts for name in re.findall(r"\bgradood_\w+", text)}
    assert len(named) >= 12
    assert named <= known


def test_the_image_is_built_of_files_that_there_are():
    text = (ROOT / "deploy" / "Dockerfile").read_text()
    copied = re.findall(r"^COPY (?!--from)(.*) \S+$", text, re.M)
    names = {name for line in copied for name in line.split()}
    assert names and all((ROOT / name).exists() for name in names)
    let_in = set(re.findall(r"^!(\S+)$", (ROOT / ".dockerignore").read_text(), re.M))
    assert names == let_in


def test_a_worker_that_ends_while_it_loads_is_ended_by_its_id(monkeypatch):
    """`process.kill` takes the exit code that asyncio waits for, which then says so."""
    process, ended = SimpleNamespace(returncode=None, pid=1), []

    async def started(*_, **__):
        return process

    monkeypatch.setattr(asyncio, "create_subprocess_exec", started)
    monkeypatch.setattr(_worker_process, "end_process", ended.append)
    subject = Subject(detector="a", model="b")
    with pytest.raises(StartError, match="a worker ended"):
        asyncio.run(_worker_process.start_worker(subject))
    assert ended == [process]


@pytest.mark.slow
def test_a_worker_that_is_killed_costs_no_request_and_no_word_of_asyncio(words):
    """A request in that instant was refused; and asyncio said "Unknown child process pid"."""
    data = {"name": "input", "datatype": "FP32", "shape": [1, 1, 8, 8], "data": [0.5] * 64}
    server = subprocess.Popen(
        [sys.executable, "-m", "gradood", *words, "--port", "0"],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    try:
        address = server.stderr.readline().split()[-1]

        def metrics():
            with urllib.request.urlopen(f"{address}/metrics", timeout=10) as answer:
                return answer.read().decode()

        for deaths in range(1, 7):
            command = ["ps", "-o", "pid=", "--ppid", str(server.pid)]
            pids = subprocess.run(command, capture_output=True, text=True).stdout.split()
            body = json.dumps({"inputs": [data]}).encode()
            asked = urllib.request.Request(f"{address}/v2/models/detector/infer", body)
            os.kill(int(pids[0]), signal.SIGKILL)
            with urllib.request.urlopen(asked, timeout=60) as answer:
                assert answer.status == 200
            end = time.monotonic() + 60
            wanted = (f"gradood_worker_deaths_total {deaths}.0", "gradood_workers 1.0")
            while not all(word in metrics() for word in wanted) and time.monotonic() < end:
                time.sleep(0.05)
        server.send_signal(signal.SIGTERM)
        assert server.wait(20) == 0
        told = server.stderr.read().splitlines()
        assert told == ["error: a worker ended; another is started"] * 6
    finally:
        server.kill()
        server.stderr.close()
        server.wait()
