"""Exported graphs against the monitors that they were made of: parity, refusals, speed.

    python benchmarks/export.py [--fit 1000] [--check 1000] [--page docs/results/export.md]

ResNet-20 of ../shared, every detector that can be in a graph, in files of about ten; 1,000 images
of the CIFAR-10 test set and 1,000 of SVHN, with three rows that are not finite, at batch sizes 1,
7, 64 and 256. The same for the network of ``gradood demo``, on its digits and patches. Speed:
onnxruntime and the monitor in turns, one thread each, by CPU time and by the clock. Needs
`gradood[onnx]`; OpenVINO is compared where it is installed.
"""

import argparse
import importlib.util
import os
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import gradood
from gradood.bench._demo import load_digits, train
from gradood.data import Preprocess, loader, open_images
from gradood.errors import ExportError, ParityError
from gradood.models import REFERENCES, build, load_weights
from gradood.onnx import OnnxJudge, exportable, verify

SHARED = Path(os.environ.get("GRADOOD_SHARED", Path(__file__).parents[2] / "shared"))
SIX = ["energy", "knn", "vim", "gradnorm", "mahalanobis", "gaia-z"]
GROUP = 10
NUMPY_ONLY = """
import json, sys, numpy as np, onnxruntime as ort
session = ort.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
x = np.load(sys.argv[2])
names = [output.name for output in session.get_outputs()]
parts = [dict(zip(names, session.run(names, {"input": x[i:i + 64]}))) for i in range(0, len(x), 64)]
flagged = np.concatenate([part["is_ood"] for part in parts])
labels = np.concatenate([part["label"] for part in parts])
np.save(sys.argv[3], np.stack([flagged.astype("int64"), labels]))
assert "torch" not in sys.modules
"""


def images(source: str, preprocess: dict[str, Any]) -> tuple[Tensor, Tensor]:
    """Inputs and labels of a Parquet file of ../shared."""
    opened = open_images(str(SHARED / "data" / source), Preprocess(**preprocess))
    batches = list(loader(opened, batch_size=250))
    return torch.cat([x for x, _ in batches]), torch.cat([y for _, y in batches])


@dataclass(frozen=True)
class Subject:
    """A network, and inputs to fit, calibrate and compare on."""

    model: nn.Module
    fit: tuple[Tensor, Tensor]
    held: Tensor
    known: Tensor
    new: Tensor

    @property
    def compared(self) -> Tensor:
        """Known inputs, and unknown ones."""
        return torch.cat([self.known, self.new])

    def fitted(self, methods: list[str], **options: Any) -> gradood.Monitor:
        """A calibrated monitor."""
        monitor = gradood.Monitor(
            self.model, methods, progress=False, skip_unusable=True, **options
        )
        batches = list(zip(*(part.split(250) for part in self.fit), strict=True))
        return monitor.fit(batches).calibrate(self.held)


def resnet20(fit: int, check: int) -> Subject:
    """ResNet-20 on CIFAR-10, and SVHN."""
    reference = REFERENCES["resnet20"]
    preprocess = dict(reference.preprocess)
    weights = SHARED / "weights" / f"{reference.weights}.safetensors"
    return Subject(
        load_weights(build("resnet20"), weights).eval(),
        images(f"cifar10_train_a.parquet[:{fit}]", preprocess),
        images("cifar10_test.parquet[:2000]", preprocess)[0],
        images(f"cifar10_test.parquet[2000:{2000 + check}]", preprocess)[0],
        images(f"svhn_test.parquet[:{check}]", preprocess)[0],
    )


def digits() -> Subject:
    """The network of the demo, on digits that it knows, others, and patches of photographs."""
    data = load_digits()
    model = train(data, epochs=12).eval()
    held, known = data.test_x[:250], data.test_x[250:]
    new = torch.cat(list(data.ood.values()))[:1000]
    return Subject(model, (data.train_x, data.train_y), held, known, new)


def each(subject: Subject, folder: Path) -> tuple[list[str], dict[str, str]]:
    """A row of the page for each detector that can be exported; why the others cannot."""
    everything = subject.fitted([method.name for method in gradood.methods()])
    why = exportable(everything)
    names = [name for name, reason in why.items() if not reason]
    rows: list[str] = []
    for start in range(0, len(names), GROUP):
        path, only = folder / "part.onnx", names[start : start + GROUP]
        try:
            parity = gradood.export(everything, path, example=subject.compared, only=only)
        except ParityError as error:
            rows.append(f"| {', '.join(only)} | {error} |")
            continue
        for name, part in parity.parts.items():
            rows.append(f"| {name} | {part.score:.1e} | {part.limit:.0e} | {part.flips} |")
        print(rows[-len(only) :], parity.labels, parity.rows, flush=True)
    refused = {name: reason for name, reason in why.items() if reason}
    refused |= {name: str(reason) for name, reason in everything.left_out.items()}
    return rows, refused


def speed(
    monitor: gradood.Monitor, judge: OnnxJudge, x: Tensor, rounds: int, size: int
) -> list[str]:
    """Images per second of both in batches of that size, in turns."""
    array = x.numpy()
    calls = {
        "monitor": lambda i: monitor.predict(x[i : i + size]),
        "onnxruntime": lambda i: judge.predict(array[i : i + size]),
    }
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in calls}
    for turn in range(rounds + 1):
        for name, call in calls.items():
            wall, cpu = time.perf_counter(), time.process_time()
            for start in range(0, len(x), size):
                call(start)
            if turn:
                spent = time.perf_counter() - wall, time.process_time() - cpu
                times[name].append(spent)
    lines: list[str] = []
    rates: dict[str, list[float]] = {}
    for name, spent in times.items():
        rates[name] = [len(x) / statistics.median(kind) for kind in zip(*spent, strict=True)]
        lines.append(f"| {size} | {name} | {rates[name][0]:.0f} | {rates[name][1]:.0f} |")
    ratio = [a / b for a, b in zip(rates["onnxruntime"], rates["monitor"], strict=True)]
    lines.append(f"| {size} | ratio | {ratio[0]:.2f} | {ratio[1]:.2f} |")
    return lines


def numpy_alone(monitor: gradood.Monitor, path: Path, x: Tensor, folder: Path) -> str:
    """Decisions by NumPy and onnxruntime in a process without torch."""
    np.save(folder / "x.npy", x.numpy())
    command = [sys.executable, "-c", NUMPY_ONLY, path, folder / "x.npy", folder / "out.npy"]
    subprocess.run(list(map(str, command)), check=True)
    flagged, labels = np.load(folder / "out.npy")
    own = monitor.predict(x)
    flips = int((flagged != own.combined.is_ood.numpy()).sum())
    return f"{flips} of {len(x)} decisions and {int((labels != own.label.numpy()).sum())} labels"


def changed(monitor: gradood.Monitor, path: Path, x: Tensor, folder: Path) -> str:
    """Whether one weight changed by 1 % is found."""
    import onnx

    graph = onnx.load(path)
    weight = next(w for w in graph.graph.initializer if w.data_type == 1 and len(w.dims) == 4)
    values = onnx.numpy_helper.to_array(weight).copy()
    values.flat[int(np.abs(values).argmax())] *= 1.01
    weight.CopyFrom(onnx.numpy_helper.from_array(values, weight.name))
    onnx.save(graph, folder / "changed.onnx")
    found = verify(folder / "changed.onnx", monitor, example=x)
    worst = max(part.score for part in found.parts.values())
    return f"holds: {found.holds}; largest difference {worst:.1e} sd"


def openvino(monitor: gradood.Monitor, path: Path, x: Tensor) -> list[str]:
    """OpenVINO in float32, and as it likes."""
    if importlib.util.find_spec("openvino") is None:
        return ["OpenVINO is not installed here."]
    lines = []
    for precision in ("f32", "default"):
        try:
            found = verify(path, monitor, example=x, runtime="openvino", precision=precision)
        except Exception as error:
            lines.append(f"- {precision}: {type(error).__name__}: {str(error)[:160]}")
            continue
        worst = max(part.score for part in found.parts.values())
        lines.append(
            f"- {precision}: holds: {found.holds}; {found.labels} labels and {found.flips} "
            f"decisions differ; largest difference {worst:.1e} sd; beyond the limit: "
            f"{', '.join(n for n, part in found.parts.items() if not part.holds) or 'none'}"
        )
    return lines


def main() -> None:
    """Print the page, or write it."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--fit", type=int, default=1000)
    parser.add_argument("--check", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--page", type=Path)
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    folder = Path(tempfile.mkdtemp())
    small = digits()
    small_rows, small_refused = each(small, folder)
    subject = resnet20(args.fit, args.check)
    known, x = subject.known, subject.compared
    rows, why = each(subject, folder)
    fused = subject.fitted(SIX, combine="fisher")
    path = folder / "net.onnx"
    parity = gradood.export(fused, path, example=x)
    judge = OnnxJudge(path, threads=1)
    page = [
        "# Exported graphs",
        "",
        f"`python benchmarks/export.py --fit {args.fit} --check {args.check}`; ResNet-20, "
        f"{parity.rows:,} rows (CIFAR-10 test, SVHN, three not finite), batches of 1, 7, 64, 256. "
        f"Load of the machine at the end: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores.",
        "",
        "## Each detector (X1)",
        f"{len(rows)} detectors; p-values and decisions are in every row exactly those that the "
        "calibration gives of the graph's scores, and no label differs; else nothing is written.",
        "",
        "| detector | score (sd) | allowed | decisions that differ |",
        "|---|---|---|---|",
        *rows,
        "",
        "## Refused (X2)",
        *(f"- {name}: {reason}" for name, reason in why.items()),
        "",
        "## The network of the demo (X1)",
        f"{len(small_rows)} detectors on `digits_net`; {len(small.compared) + 3:,} rows (digits it "
        "knows, two that it does not, patches of photographs, three not finite).",
        "",
        "| detector | score (sd) | allowed | decisions that differ |",
        "|---|---|---|---|",
        *small_rows,
        "",
        *(f"- {name}: {reason}" for name, reason in small_refused.items()),
        "",
        "## Model, six detectors and Fisher's combination as one graph",
        "```text",
        str(parity),
        "```",
        f"- One weight changed by 1 % (X3): {changed(fused, path, known[:200], folder)}",
        f"- NumPy and onnxruntime without torch (X4) differ in: "
        f"{numpy_alone(fused, path, x[: args.check], folder)}",
        "",
        "| batch | one thread (X5) | images/s | images per CPU second |",
        "|---|---|---|---|",
        *speed(fused, judge, x[:64], args.rounds, 1),
        *speed(fused, judge, x[:256], args.rounds, 16),
        *speed(fused, judge, x[:512], args.rounds, 64),
        "",
        "OpenVINO:",
        *openvino(fused, path, x),
        "",
        f"The file (X6) has {path.stat().st_size:,} bytes; `onnx.checker` accepts it in full.",
    ]
    text = "\n".join(page) + "\n"
    if args.page is None:
        print(text)
    else:
        args.page.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    try:
        main()
    except ExportError as error:
        sys.exit(str(error))
