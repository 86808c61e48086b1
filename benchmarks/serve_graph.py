"""X7: `gradood serve --onnx` passes S1, over gRPC too, and S3 (S2: tests/unit/serve with a graph).

    python benchmarks/serve_graph.py [--demo FOLDER] [--triton PYTHON] [--kserve PYTHON]

What `gradood demo --out FOLDER` left: its detectors and their combination as one graph, asked for
its digits and patches. Without --demo a network of random weights with energy, msp and Fisher's
combination, calibrated on random images. Unmodified clients, each by the interpreter of an
environment of its own, then 1,200 inputs in requests of 1 to 4 rows at concurrency 1, 4, 8 and 32,
against `monitor.predict`.
"""

import argparse
import json
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

import gradood
from gradood.data import Preprocess, loader, open_images
from gradood.models import REFERENCES, build, load_weights
from gradood.monitor import load

CLIENTS = Path(__file__).parent / "serve_clients.py"
DEMO = ("test", "near", "far")


def graph(folder: Path) -> tuple[gradood.Monitor, Path]:
    """A calibrated detector and its graph."""
    torch.manual_seed(0)
    model = build("digits_net").eval()
    with torch.no_grad():
        model.head.weight.mul_(50)  # Random logits hardly differ else.
    monitor = gradood.Monitor(
        model,
        ["energy", "msp"],
        combine="fisher",
        preprocess=dict(REFERENCES["digits_net"].preprocess),
        progress=False,
    )
    monitor.calibrate(torch.rand(400, 1, 8, 8), fpr=0.1)
    file = folder / "net.onnx"
    gradood.export(monitor, file, example=torch.rand(200, 1, 8, 8))
    return monitor, file


def demo(folder: Path, out: Path) -> tuple[gradood.Monitor, Path, torch.Tensor]:
    """The detector that the demo left, its graph, and 1,200 of its images."""
    model = load_weights(build("digits_net", num_classes=8), folder / "weights.safetensors")
    monitor = load(folder / "detector.safetensors", model.eval())
    prepare = Preprocess(**(monitor.preprocess or {}))
    sources = [open_images(str(folder / part), prepare, labeled=False) for part in DEMO]
    x = torch.cat([batch for source in sources for batch in loader(source)])
    file = out / "net.onnx"
    gradood.export(monitor, file, example=x[:200])
    return monitor, file, x.repeat(-(-1200 // len(x)), 1, 1, 1)[:1200]


def ask(port: int, x: np.ndarray) -> dict[str, Any]:
    """Outputs for some inputs."""
    tensor = {"name": "input", "datatype": "FP32", "shape": list(x.shape), "data": x.tolist()}
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/v2/models/detector/infer",
        json.dumps({"inputs": [tensor]}).encode(),
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        return {output["name"]: output["data"] for output in json.load(answer)["outputs"]}


def noise() -> torch.Tensor:
    """1,200 random images, half of them of few values."""
    x = torch.rand(1200, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    x[600:] = (x[600:] * 3).round()
    return x


def compared(port: int, monitor: gradood.Monitor, x: torch.Tensor) -> str:
    """S3."""
    own = monitor.predict(x)
    cuts = np.cumsum(np.random.default_rng(0).integers(1, 5, 1200))
    pieces = [piece.numpy() for piece in x.tensor_split(cuts[cuts < 1200].tolist()) if len(piece)]
    flips, relative, spread = {}, dict[str, float](), dict[str, float]()
    parts = {"": own.combined, **{f"{name}.": own[name] for name in own}}
    for concurrency in (1, 4, 8, 32):
        with ThreadPoolExecutor(concurrency) as threads:
            answers = list(threads.map(lambda piece: ask(port, piece), pieces))
        flags = np.concatenate([answer["is_ood"] for answer in answers])
        flips[concurrency] = int((flags != own.combined.is_ood.numpy()).sum())
        for head, part in parts.items():
            found = np.concatenate([answer[f"{head}score"] for answer in answers])
            wanted, name = part.score.numpy(), head.removesuffix(".") or "combined"
            apart = np.abs(found - wanted)
            relative[name] = max(relative.get(name, 0), (apart / np.abs(wanted)).max())
            spread[name] = max(spread.get(name, 0), apart.max() / wanted.std())
    flagged = int(own.combined.is_ood.sum())
    each = "; ".join(f"{n} {relative[n]:.1e} relative, {spread[n]:.1e} sd" for n in relative)
    return f"{len(x)} inputs ({flagged} flagged); other decisions {flips}; {each}"


def main() -> None:
    """Print what each part found."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--demo", type=Path, help="folder of gradood demo")
    parser.add_argument("--triton", help="interpreter with tritonclient")
    parser.add_argument("--kserve", help="interpreter with kserve")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        if options.demo is None:
            monitor, file, x = *graph(Path(name)), noise()
        else:
            monitor, file, x = demo(options.demo, Path(name))
        picture = Path(name) / "a.png"
        Image.fromarray(np.full((8, 8), 99, np.uint8)).save(picture)
        with socket.socket() as probe, socket.socket() as other:
            for each in (probe, other):
                each.bind(("127.0.0.1", 0))
            port, calls = probe.getsockname()[1], other.getsockname()[1]
        command = [sys.executable, "-m", "gradood", "serve", "--onnx", str(file)]
        command += ["--port", str(port), "--grpc", str(calls), "--max-wait", "60"]
        server = subprocess.Popen(command)
        try:
            for _ in range(600):
                try:
                    urllib.request.urlopen(f"http://127.0.0.1:{port}/v2/health/ready")
                    break
                except (urllib.error.URLError, OSError):
                    time.sleep(0.2)
            interpreters = {"triton": options.triton, "kserve": options.kserve}
            for client in ("triton", "triton-grpc", "kserve", "kserve-grpc"):
                python = interpreters[client.removesuffix("-grpc")]
                if python is None:
                    print(f"{client}: not run, no interpreter was given")
                    continue
                words = [python, str(CLIENTS), str(port), client, str(picture), str(calls)]
                ran = subprocess.run(words, capture_output=True, text=True, env={"PATH": ""})
                told = [line for line in ran.stdout.splitlines() if not line.startswith("ok ")]
                print("S1", client, *told, ran.stderr[-300:], flush=True)
            print("S3", compared(port, monitor, x), flush=True)
        finally:
            server.terminate()
            print("exit", server.wait(60))


if __name__ == "__main__":
    main()
