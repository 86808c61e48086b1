"""What one source tree computes on fixed inputs; `unchanged` runs this once per part and tree.

Uses public names alone, so that trees with different insides can be compared.
"""

import io
import json
import os
import re
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

import gradood
from gradood.models import densenet101, load_weights, resnet20
from gradood.testing import networks

SOURCE = Path(os.environ["GRADOOD_SOURCE"])
_FOLDER = re.compile(re.escape(os.path.join(tempfile.gettempdir(), "tmp")) + r"\w+")
"""Of one run."""
SHARED = Path(os.environ.get("GRADOOD_SHARED", "../shared")).resolve()
PROMISES = tuple(
    (mode, per_class, how)
    for mode in ("marginal", "pac")
    for per_class in (False, True)
    for how in ("fisher", "stouffer", "cauchy", "min")
)
# What a record says of the run rather than of the result, by the name of its key.
PASSING = {"command", "date", "commit", "versions", "machine", "seconds", "cost", "costs", "keys"}
PASSING |= {"key", "cache", "environment", "provenance", "threads", "time", "gradood", "python"}


class Recording:
    """Named tensors and plain values; two of one name are an error."""

    def __init__(self) -> None:
        self.tensors: dict[str, Tensor] = {}
        self.values: dict[str, object] = {}

    def add(self, name: str, value: object) -> None:
        """Keep a tensor, or anything that JSON holds."""
        assert name not in self.tensors and name not in self.values, name
        if isinstance(value, Tensor):
            self.tensors[name] = value.detach().contiguous().clone()
        else:
            self.values[name] = value

    def results(self, prefix: str, results: gradood.Results) -> None:
        """Everything that `predict` says."""
        named = dict(results)
        if results.combined is not None:
            named["(combined)"] = results.combined
        for name, result in named.items():
            self.add(f"{prefix}/score/{name}", result.score)
            self.add(f"{prefix}/p/{name}", result.p_value)
            self.add(f"{prefix}/ood/{name}", result.is_ood)
            self.add(f"{prefix}/fdr/{name}", result.select(0.2))
            self.add(f"{prefix}/status/{name}", list(result.status))
        self.add(f"{prefix}/label", results.label)

    def states(self, prefix: str, monitor: gradood.Monitor) -> None:
        """Everything that was learned."""
        for detector, state in monitor.states.items():
            for key, tensor in state.items():
                self.add(f"{prefix}/state/{detector}/{key}", tensor)

    def saved(self, prefix: str, monitor: gradood.Monitor) -> None:
        """Every tensor of the saved file."""
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "saved.safetensors"
            monitor.save(file)
            for key, tensor in load_file(file).items():
                self.add(f"{prefix}/saved/{key}", tensor)

    def write(self, out: Path) -> None:
        """The tensors, and the values beside them."""
        save_file(self.tensors, out)
        out.with_suffix(".json").write_text(json.dumps(self.values, sort_keys=True))


def images(name: str, rows: slice, mean: tuple[float, ...], std: tuple[float, ...]) -> Tensor:
    """(rows, 3, 32, 32) normalized images, decoded here so that no tree's own decoder matters."""
    column = pq.read_table(SHARED / "data" / f"{name}.parquet", columns=["image"])["image"]
    decoded = [
        np.asarray(Image.open(io.BytesIO(row["bytes"])).convert("RGB"))
        for row in column[rows.start : rows.stop].to_pylist()
    ]
    x = torch.tensor(np.stack(decoded)).permute(0, 3, 1, 2).float() / 255
    return (x - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)


def labels(name: str, rows: slice) -> Tensor:
    """(rows,) int64."""
    table = pq.read_table(SHARED / "data" / f"{name}.parquet", columns=["label"])
    return torch.tensor(table["label"][rows.start : rows.stop].to_pylist())


IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
CIFAR = (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)


def trained(name: str) -> nn.Module:
    """ResNet-20 or DenseNet-101."""
    model = resnet20() if name == "resnet20" else densenet101()
    return load_weights(model, SHARED / "weights" / f"{name}_cifar10.safetensors").eval()


def every_detector(recording: Recording, name: str, sizes: list[int]) -> None:
    """All methods in one monitor: fitted, calibrated, saved, and asked about two sets."""
    fit, held_out, test, ood = sizes
    statistics = IMAGENET if name == "resnet20" else CIFAR
    x = images("cifar10_train_a", slice(0, fit), *statistics)
    y = labels("cifar10_train_a", slice(0, fit))
    held = images("cifar10_train_b", slice(0, held_out), *statistics)
    known = images("cifar10_test", slice(0, test), *statistics)
    unknown = images("svhn_test", slice(0, ood), *statistics)
    unknown[3, 0, 5, 5] = torch.nan
    methods = given_methods()
    monitor = gradood.Monitor(trained(name), methods, combine="fisher", progress=False)
    monitor.fit(zip(x.split(100), y.split(100), strict=True))
    recording.add(f"{name}/methods", sorted(methods))
    recording.states(name, monitor)
    monitor.calibrate(held.split(50), fpr=0.05)
    recording.results(f"{name}/id", monitor.predict(known.split(50)))
    recording.results(f"{name}/ood", monitor.predict(unknown))
    recording.saved(name, monitor)


def given_methods() -> list[str]:
    """Names in GRADOOD_METHODS, separated by commas; without it, all that score a softmax."""
    given = os.environ.get("GRADOOD_METHODS", "")
    return given.split(",") if given else [method.name for method in gradood.methods()]


def promises(recording: Recording) -> None:
    """Every kind of promise and combination, of a few cheap detectors, on ResNet-20."""
    model = trained("resnet20")
    held = images("cifar10_train_b", slice(400, 1400), *IMAGENET)
    test = torch.cat([images("cifar10_test", slice(200, 260), *IMAGENET), -3 * held[:20]])
    for mode, per_class, how in PROMISES:
        names = ["energy", "msp", "gradnorm"]
        monitor = gradood.Monitor(model, names, combine=how, progress=False)
        monitor.calibrate(held.split(125), fpr=0.1, mode=mode, per_class=per_class)
        prefix = f"promises/{mode}/{per_class}/{how}"
        recording.results(prefix, monitor.predict(test))
        recording.saved(prefix, monitor)


def contract(recording: Recording) -> None:
    """Scores and states of every variant of the tree's contract suite on every network of it."""
    sys.path.insert(0, str(SOURCE / "tests" / "contract"))
    from variants import VARIANTS

    warnings.simplefilter("ignore")
    for name, variant in sorted(VARIANTS.items()):
        for network in variant.networks:
            _variant(recording, f"contract/{name}/{network}", variant.make(), network)


def _variant(recording: Recording, prefix: str, detector: gradood.Detector, network: str) -> None:
    chosen = networks()[network]
    monitor = gradood.Monitor(chosen.model(), {"it": detector}, progress=False)
    x, y = chosen.inputs(64, seed=2), chosen.labels(64)
    try:
        monitor.fit(zip(x.split(32), y.split(32), strict=True))
        scores = monitor.score(chosen.inputs(16, seed=1))
    except gradood.errors.GradoodError as error:
        recording.add(f"{prefix}/refused", type(error).__name__)
        return
    recording.add(f"{prefix}/score", scores["it"])
    recording.states(prefix, monitor)


def demo(recording: Recording) -> None:
    """The record of ``gradood demo``."""
    record = _plain(_command("demo", "--json", "--epochs", "4"))
    for path, value in _leaves("demo", record):
        recording.add(path, value)


def bench(recording: Recording) -> None:
    """The record of ``gradood bench`` on ResNet-20, and the scores it writes to a folder."""
    data = SHARED / "data"
    with tempfile.TemporaryDirectory() as folder:
        record = _command(
            *("bench", "--model", "resnet20", "--no-costs", "--no-cache", "--json"),
            *("--weights", str(SHARED / "weights" / "resnet20_cifar10.safetensors")),
            *("--id", f"{data}/cifar10_test.parquet[0:80]"),
            *("--fit", f"{data}/cifar10_train_a.parquet[0:300]"),
            *("--ood", f"svhn={data}/svhn_test.parquet[0:50]"),
            *("--ood", f"near:cifar100={data}/cifar100_test.parquet[0:50]"),
            *("--out", folder),
        )
        for path, value in _leaves("bench", _plain(record)):
            recording.add(path, value)
        for file in sorted(Path(folder).rglob("*.safetensors")):
            for key, tensor in load_file(file).items():
                recording.add(f"bench/{file.relative_to(folder)}/{key}", tensor)


def _command(*arguments: str) -> object:
    program = [sys.executable, "-m", "gradood.cli", *arguments]
    done = subprocess.run(program, capture_output=True, text=True, cwd=SHARED)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout)


def _plain(value: object) -> object:
    """A record without what two runs of the same tree may differ in."""
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items() if k not in PASSING}
    if isinstance(value, list):
        return [_plain(each) for each in value]
    if isinstance(value, str):  # A checkout's own folder, and folders of one run.
        return _FOLDER.sub("TMP", value.replace(str(SOURCE), "SOURCE"))
    return value


def _leaves(path: str, value: object) -> Iterator[tuple[str, object]]:
    """A record's values with their places, so that a difference names its own."""
    if not value or not isinstance(value, dict | list):
        yield path, value
        return
    for key, part in value.items() if isinstance(value, dict) else enumerate(value):
        yield from _leaves(f"{path}/{key}", part)


NETWORK = "resnet"


def _artifact_inputs() -> tuple[list[tuple[Tensor, Tensor]], Tensor, Tensor]:
    network = networks()[NETWORK]
    x, y = network.inputs(320, seed=2), network.labels(320)
    fit = list(zip(x.split(64), y.split(64), strict=True))
    return fit, network.inputs(200, seed=3), network.inputs(40, seed=1)


def artifact(out: Path) -> None:
    """A calibrated monitor of every detector, the weights of its model, and what it answers."""
    model = networks()[NETWORK].model()
    fit, held_out, x = _artifact_inputs()
    methods = given_methods()
    monitor = gradood.Monitor(model, methods, combine="fisher", progress=False)
    monitor.fit(fit).calibrate(held_out, fpr=0.05)
    monitor.save(out)
    recording = Recording()
    for key, tensor in model.state_dict().items():
        recording.add(f"model/{key}", tensor)
    _answers(recording, monitor, x)
    recording.write(out.with_suffix(".expected.safetensors"))


def load(file: Path, out: Path) -> None:
    """What this tree answers with the saved file and the weights saved beside it."""
    expected = load_file(file.with_suffix(".expected.safetensors"))
    model = networks()[NETWORK].model()
    weights = {k.removeprefix("model/"): v for k, v in expected.items() if k.startswith("model/")}
    model.load_state_dict(weights)
    recording = Recording()
    for key, tensor in model.state_dict().items():
        recording.add(f"model/{key}", tensor)
    _answers(recording, gradood.load(file, model), expected["inputs"])
    recording.write(out)


def _answers(recording: Recording, monitor: gradood.Monitor, x: Tensor) -> None:
    recording.add("inputs", x)
    recording.states("loaded", monitor)
    recording.results("loaded", monitor.predict(x))
    recording.saved("again", monitor)


def main(what: str, out: Path) -> None:
    """Measure one part and write it."""
    origin = Path(str(gradood.__file__)).resolve()
    assert origin.is_relative_to(SOURCE / "src"), f"{origin} was imported, not {SOURCE}"
    torch.set_num_threads(1)
    torch.manual_seed(0)
    kind, _, name = what.partition(":")
    if kind == "artifact":
        return artifact(out)
    if kind == "load":
        return load(Path(name), out)
    recording = Recording()
    parts = {
        "resnet20": lambda: every_detector(recording, name, [1000, 400, 200, 100]),
        "densenet101": lambda: every_detector(recording, name, [300, 120, 60, 40]),
        "promises": lambda: promises(recording),
        "contract": lambda: contract(recording),
        "demo": lambda: demo(recording),
        "bench": lambda: bench(recording),
    }
    parts[name]()
    return recording.write(out)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
