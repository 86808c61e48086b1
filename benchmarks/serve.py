"""`gradood serve` under load, faults and exchange: the acceptance lines S3 to S12.

    python benchmarks/serve.py [--only overload,kills] [--seconds 60] [--out serve.jsonl]

The networks and images of ../shared. The server is held to core 0, the load to core 1; a bare echo
server on core 0 is timed in the same seconds. S1 is benchmarks/serve_clients.py, S2 a test. Each
part is one line of JSON in --out, so that a page can be made of several runs.
"""

import argparse
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

import gradood
from gradood.artifact import read
from gradood.data import Preprocess, loader, open_images
from gradood.models import REFERENCES, build, load_weights
from gradood.serve._grpc_messages import messages

SHARED = Path(os.environ.get("GRADOOD_SHARED", Path(__file__).parents[2] / "shared"))
LOAD = Path(__file__).parent / "serve_load.py"
ECHO = """
import sys, uvicorn
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route
async def echo(request): return JSONResponse({"live": True})
uvicorn.run(Starlette(routes=[Route("/", echo)]), port=int(sys.argv[1]), log_level="error")
"""


def free_port() -> int:
    """A port that nothing listens at."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def resident(pid: int) -> float:
    """MB of a process in memory (RSS)."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) / 1024


def get(port: int, path: str) -> tuple[int, str]:
    """Status and text of an address; 0 where nobody answers."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()
    except OSError:
        return 0, ""


class Server:
    """A server in a process of its own, on core 0."""

    def __init__(self, folder: Path, name: str, *options: str) -> None:
        self.port = free_port()
        weights = SHARED / "weights" / f"{REFERENCES[name].weights}.safetensors"
        self.log = (folder / "server.log").open("a")
        command = ["taskset", "-c", "0", sys.executable, "-m", "gradood", "serve"]
        command += ["--port", str(self.port), "--model", name, "--weights", str(weights)]
        command += ["--detector", str(folder / f"{name}.safetensors"), *options]
        self.process = subprocess.Popen(command, stderr=self.log)
        self.wait()

    def wait(self, seconds: float = 60) -> float:
        """Seconds until it is ready."""
        start = time.monotonic()
        while get(self.port, "/v2/health/ready")[0] != 200:
            if time.monotonic() - start > seconds or self.process.poll() is not None:
                raise SystemExit("the server is not ready")
            time.sleep(0.05)
        return time.monotonic() - start

    def children(self) -> list[int]:
        found = subprocess.run(
            ["ps", "-o", "pid=", "--ppid", str(self.process.pid)], capture_output=True, text=True
        )
        return [int(pid) for pid in found.stdout.split()]

    def memory(self) -> dict[str, float]:
        """MB of the server, of its workers, and of both."""
        made = {"server": resident(self.process.pid)}
        made["workers"] = sum(map(resident, self.children()))
        return {**made, "both": sum(made.values())}

    def files(self) -> tuple[int, int]:
        """Open files of the server and its workers: sockets, and others."""
        kinds: Counter[bool] = Counter()
        for pid in [self.process.pid, *self.children()]:
            for file in Path(f"/proc/{pid}/fd").iterdir():
                with suppress(OSError):  # It was closed in between.
                    kinds[os.readlink(file).startswith("socket:")] += 1
        return kinds[True], kinds[False]

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)

    def load(self, seconds: float, **options: Any) -> subprocess.Popen[str]:
        words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
        command = ["taskset", "-c", "1", sys.executable, str(LOAD), str(self.port)]
        command += ["--seconds", str(seconds), *words]
        return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def result(load: "subprocess.Popen[str]") -> dict[str, Any]:
    """What a load prints once it ends."""
    return dict(json.loads(load.communicate()[0]))


def images(source: str, name: str) -> Tensor:
    """Inputs of a Parquet file of ../shared."""
    opened = open_images(str(SHARED / "data" / source), Preprocess(**REFERENCES[name].preprocess))
    return torch.cat([x for x, _ in loader(opened, batch_size=250)])


def detector(folder: Path, name: str, seed: int = 0) -> gradood.Monitor:
    """A calibrated detector, saved."""
    weights = SHARED / "weights" / f"{REFERENCES[name].weights}.safetensors"
    model = load_weights(build(name), weights).eval()
    monitor = gradood.Monitor(
        model,
        ["energy", "max-logit"],
        combine="fisher",
        preprocess=dict(REFERENCES[name].preprocess),
        progress=False,
    )
    x = images("cifar10_test.parquet[:500]", name)
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(seed))[:400]
    monitor.calibrate(x[order].split(100))
    monitor.save(folder / f"{name}.safetensors")
    return monitor


def body(folder: Path, x: Tensor) -> dict[str, Any]:
    """A request of binary tensors in a file, for the load."""
    raw = x.numpy().tobytes()
    tensor = {"name": "input", "datatype": "FP32", "shape": list(x.shape)}
    head = json.dumps(
        {"inputs": [{**tensor, "parameters": {"binary_data_size": len(raw)}}]}
    ).encode()
    file = folder / f"body-{len(x)}"
    file.write_bytes(head + raw)
    return {"body": file, "length": len(head)}


def ask(port: int, x: Tensor) -> dict[str, Any]:
    """Outputs for some inputs."""
    raw = x.numpy().tobytes()
    tensor = {"name": "input", "datatype": "FP32", "shape": list(x.shape)}
    head = json.dumps(
        {"inputs": [{**tensor, "parameters": {"binary_data_size": len(raw)}}]}
    ).encode()
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/v2/models/detector/infer",
        head + raw,
        {"Inference-Header-Content-Length": str(len(head))},
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        return {output["name"]: output["data"] for output in json.load(answer)["outputs"]}


# ---------------------------------------------------------------- the parts


def equal(folder: Path, args: argparse.Namespace) -> dict[str, Any]:
    """S3: decisions and scores are those of `predict`, at several concurrencies."""
    monitor = detector(folder, "resnet20")
    known, unknown = (
        images(f"{source}[:600]", "resnet20")
        for source in ("cifar10_test.parquet", "svhn_test.parquet")
    )
    x = torch.cat([known, unknown])[:1200]
    expected = monitor.predict(x.split(64), keep=())
    server = Server(folder, "resnet20", "--max-wait", "60")
    flips, worst = {}, 0.0
    sizes = np.random.default_rng(0).integers(1, 5, 1200)
    cuts = np.minimum(np.cumsum(sizes), 1200)
    pieces = [p for p in x.tensor_split(cuts.tolist()) if len(p)]
    for concurrency in (1, 4, 8, 32):
        with ThreadPoolExecutor(concurrency) as threads:
            answers = list(threads.map(lambda piece: ask(server.port, piece), pieces))
        flags = np.concatenate([a["is_ood"] for a in answers])
        flips[concurrency] = int((flags != expected.is_ood.numpy()).sum())
        for name in ("energy", "max-logit"):
            score = np.concatenate([a[f"{name}.score"] for a in answers])
            off = np.abs(score - expected[name].score.numpy()) / np.abs(
                expected[name].score.numpy()
            )
            worst = max(worst, float(off.max()))
    return {"images": len(x), "flips": flips, "relative": worst, "exit": server.stop()}


def overload(folder: Path, args: argparse.Namespace) -> dict[str, Any]:
    """S4: ten times what can be computed, for a minute."""
    detector(folder, "densenet101")
    server = Server(folder, "densenet101")
    given = body(folder, images("cifar10_test.parquet[:10]", "densenet101")[:1])
    return overloaded(server, given, args.seconds)


def overload_grpc(folder: Path, args: argparse.Namespace) -> dict[str, Any]:
    """The same over gRPC."""
    detector(folder, "densenet101")
    port = free_port()
    server = Server(folder, "densenet101", "--grpc", str(port))
    x = images("cifar10_test.parquet[:10]", "densenet101")[:1]
    message = messages().ModelInferRequest(model_name="detector")
    message.inputs.add(name="input", datatype="FP32", shape=x.shape)
    message.raw_input_contents.append(x.numpy().tobytes())
    file = folder / "message"
    file.write_bytes(message.SerializeToString())
    return overloaded(server, {"body": file, "grpc": port}, args.seconds)


def overloaded(server: Server, given: dict[str, Any], seconds: float) -> dict[str, Any]:
    """Capacity, ten times as many requests, capacity again."""
    port = free_port()
    echo = subprocess.Popen(["taskset", "-c", "0", sys.executable, "-c", ECHO, str(port)])
    while get(port, "/")[0] != 200:
        time.sleep(0.1)
    result(server.load(5, concurrency=16, **given))  # The estimate of a row's time settles.
    before = result(server.load(15, concurrency=16, echo=port, **given))
    capacity = before["answers"]["200"]["count"] / before["seconds"]
    memory = server.memory()["both"]
    burst = result(server.load(seconds, rate=10 * capacity, echo=port, **given))
    grown = server.memory()["both"] / memory - 1
    after = result(server.load(15, concurrency=16, echo=port, **given))
    capacities = [capacity, after["answers"]["200"]["count"] / after["seconds"]]
    goodput = burst["answers"]["200"]["count"] / seconds
    echo.terminate()
    return {
        "capacity": capacities,
        "offered": 10 * capacity,
        "goodput": goodput,
        "share": goodput / statistics.mean(capacities),
        "burst": burst,
        "rss_growth": grown,
        "exit": server.stop(),
    }


def batching(folder: Path, args: argparse.Namespace) -> dict[str, Any]:
    """S5 and S6: images per second by concurrency, and one request against `predict`."""
    monitor = detector(folder, "resnet20")
    server = Server(folder, "resnet20", "--max-wait", "60")
    x = images("cifar10_test.parquet[:10]", "resnet20")[:1]
    given = body(folder, x)
    rates: dict[int, list[float]] = {1: [], 32: []}
    served, direct = [], []
    torch.set_num_threads(1)
    for _ in range(4):
        for concurrency in rates:
            found = result(server.load(5, concurrency=concurrency, **given))["answers"]["200"]
            rates[concurrency].append(found["count"] / 5)
            if concurrency == 1:
                served.append(found["p50"])
        os.sched_setaffinity(0, {0})
        times = []
        for _ in range(100):
            start = time.perf_counter()
            monitor.predict(x, keep=())
            times.append(1e3 * (time.perf_counter() - start))
        os.sched_setaffinity(0, {0, 1})
        direct.append(statistics.median(times))
    return {
        "rates": rates,
        "ratio": [b / a for a, b in zip(rates[1], rates[32], strict=True)],
        "direct_p50": direct,
        "served_p50": served,
        "exit": server.stop(),
    }


def kills(folder: Path, args: argparse.Namespace) -> dict[str, Any]:
    """S7: `kill -9` of a worker, ten times, with two workers under load."""
    detector(folder, "resnet20")
    server = Server(folder, "resnet20", "--workers", "2", "--max-wait", "5")
    given = body(folder, images("cifar10_test.parquet[:10]", "resnet20")[:1])
    load = server.load(90, concurrency=8, **given)
    back = []
    time.sleep(3)
    for _ in range(10):
        before = server.children()
        os.kill(before[0], signal.SIGKILL)
        start = time.monotonic()
        while True:
            page = get(server.port, "/metrics")[1]
            alive = set(server.children())
            if "gradood_workers 2.0" in page and before[0] not in alive and len(alive) == 2:
                break
            if time.monotonic() - start > 30:
                break
            time.sleep(0.05)
        back.append(time.monotonic() - start)
        time.sleep(1)
    load.terminate()
    load.wait()
    load = server.load(5, concurrency=8, **given)
    found = result(load)
    page = get(server.port, "/metrics")[1]
    counts = {
        line.rsplit(" ", 1)[0]: float(line.rsplit(" ", 1)[1])
        for line in page.splitlines()
        if "infer" in line and line.startswith("gradood_requests_total")
    }
    return {"back": back, "requests": counts, "after": found["answers"], "exit": server.stop()}


def terms(folder: Path, args: argparse.Namespace) -> dict[str, Any]:
    """S8: SIGTERM under load, twenty times."""
    detector(folder, "resnet20")
    x = images("cifar10_test.parquet[:10]", "resnet20")[:1]
    exits: Counter[int] = Counter()
    answers: Counter[str] = Counter()
    seconds = []
    for _ in range(20):
        server = Server(folder, "resnet20", "--max-wait", "5")
        with ThreadPoolExecutor(8) as threads:
            working = [threads.submit(until_gone, server.port, x) for _ in range(8)]
            time.sleep(1)
            start = time.monotonic()
            exits[server.stop()] += 1
            seconds.append(time.monotonic() - start)
            for each in working:
                answers.update(each.result())
    return {"exits": dict(exits), "answers": dict(answers), "seconds": max(seconds)}


def until_gone(port: int, x: Tensor) -> list[str]:
    """What becomes of one request after another, until none is taken."""
    seen = []
    while True:
        try:
            ask(port, x)
            seen.append("200")
        except urllib.error.HTTPError as error:
            seen.append(str(error.code))
        except urllib.error.URLError as error:
            refused = isinstance(error.reason, ConnectionRefusedError)
            return [*seen, "not accepted" if refused else "reset while connecting"]
        except OSError:
            return [*seen, "lost"]


def swaps(folder: Path, args: argparse.Namespace) -> dict[str, Any]:
    """S10: another detector takes over under load, twenty times."""
    name = "resnet20"
    versions = []
    for seed in (0, 1):
        detector(folder, name, seed)
        file = folder / f"{name}.safetensors"
        versions.append(read(file).verified.sha256[:12])
        file.rename(folder / f"version-{seed}")
    (folder / f"{name}.safetensors").write_bytes((folder / "version-0").read_bytes())
    server = Server(folder, name, "--max-wait", "10")
    load = server.load(
        150, concurrency=4, **body(folder, images("cifar10_test.parquet[:10]", name)[:1])
    )
    seconds = []
    for turn in range(20):
        fresh = folder / "fresh"
        fresh.write_bytes((folder / f"version-{(turn + 1) % 2}").read_bytes())
        fresh.rename(folder / f"{name}.safetensors")
        start = time.monotonic()
        server.process.send_signal(signal.SIGHUP)
        while versions[(turn + 1) % 2] not in get(server.port, "/v2/models/detector")[1]:
            if time.monotonic() - start > 30:
                break
            time.sleep(0.05)
        seconds.append(time.monotonic() - start)
    page = get(server.port, "/metrics")[1]
    done = [line for line in page.splitlines() if line.startswith("gradood_swaps_total")]
    found = result(load)
    known = set(found["versions"]) <= set(versions)
    return {
        "swaps": done,
        "seconds": max(seconds),
        "answers": found["answers"],
        "known_versions": known,
        "exit": server.stop(),
    }


def starts(folder: Path, args: argparse.Namespace) -> dict[str, Any]:
    """S9: a damaged file, another model, a taken port."""
    detector(folder, "resnet20")
    whole = (folder / "resnet20.safetensors").read_bytes()
    (folder / "cut.safetensors").write_bytes(whole[:-100])
    weights = SHARED / "weights" / f"{REFERENCES['resnet20'].weights}.safetensors"
    found = {}
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        for name, file, address, model in (
            ("damaged", "cut", "0", "resnet20"),
            ("taken port", "resnet20", port, "resnet20"),
            ("another model", "resnet20", "0", "resnet20:untrained"),
        ):
            words = ["--detector", str(folder / f"{file}.safetensors"), "--port", address]
            kind = ["--model", model, "--weights", str(weights)]
            if name == "another model":
                other = SHARED / "weights" / f"{REFERENCES['resnet56'].weights}.safetensors"
                kind = ["--model", "resnet56", "--weights", str(other)]
            start = time.monotonic()
            code = subprocess.run(
                [sys.executable, "-m", "gradood", "serve", *words, *kind], capture_output=True
            ).returncode
            found[name] = {"exit": code, "seconds": round(time.monotonic() - start, 2)}
    return found


def soak(folder: Path, args: argparse.Namespace) -> dict[str, Any]:
    """S11 and S12: at 70 % of what can be computed; memory, files, series, counters.

    Slopes are least squares of samples each 5 seconds, without the first quarter of the time.
    """
    detector(folder, "resnet20")
    server = Server(
        folder, "resnet20", "--watch", str(folder / "watch.json"), *args.options.split()
    )
    idle = server.files()
    given = body(folder, images("cifar10_test.parquet[:10]", "resnet20")[:1])
    first = result(server.load(8, concurrency=16, **given))
    rate = 0.7 * first["answers"]["200"]["count"] / first["seconds"]
    samples, load = [], server.load(args.soak, rate=rate, **given)
    start = time.monotonic()
    while (minutes := (time.monotonic() - start) / 60) < (args.soak - 1) / 60:
        samples.append((minutes, server.memory(), server.files()))
        time.sleep(5)
    found = result(load)
    late = samples[len(samples) // 4 :]
    slopes = {
        name: float(np.polyfit([m for m, _, _ in late], [mb[name] for _, mb, _ in late], 1)[0])
        for name in late[0][1]
    }
    page = get(server.port, "/metrics")[1]
    lines = [line for line in page.splitlines() if line and not line.startswith("#")]
    counted = sum(
        float(line.rsplit(" ", 1)[1])
        for line in lines
        if line.startswith("gradood_requests_total") and ("infer" in line or "at once" in line)
    )
    sent = sum(a["count"] for part in (first, found) for a in part["answers"].values())
    time.sleep(1)  # For the connections of the load to be closed.
    return {
        "seconds": args.soak,
        "rate": rate,
        "answers": found["answers"],
        "mb_per_minute": slopes,
        "mb": [samples[0][1], late[0][1], samples[-1][1]],
        "files": {
            "sockets": [idle[0], max(sockets for _, _, (sockets, _) in samples), server.files()[0]],
            "others": sorted({others for _, _, (_, others) in samples} | {idle[1]}),
        },
        "batches": [line for line in lines if line.startswith("gradood_batch_items_bucket")],
        "series": len(lines),
        "counted": counted,
        "sent": sent,
        "exit": server.stop(),
    }


PARTS = (equal, overload, overload_grpc, batching, kills, terms, swaps, starts, soak)


def main(args: argparse.Namespace) -> None:
    """Run the parts that were named."""
    for part in PARTS:
        if args.only and part.__name__ not in args.only.split(","):
            continue
        with tempfile.TemporaryDirectory() as name:
            before = os.getloadavg()[0]
            found = part(Path(name), args)
        line = {"part": part.__name__, "load": [before, os.getloadavg()[0]], **found}
        with args.out.open("a") as file:
            file.write(json.dumps(line) + "\n")
        print(json.dumps(line, indent=1), flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only")
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--soak", type=float, default=600)
    parser.add_argument("--options", default="", help="of the server, for soak")
    parser.add_argument("--out", type=Path, default=Path("serve.jsonl"))
    main(parser.parse_args())
