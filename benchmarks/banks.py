"""Bounded feature banks: AUROC, memory and speed beside an exact bank.

    python benchmarks/banks.py features FOLDER               # ResNet-20, 50,000 training images
    python benchmarks/banks.py choose FOLDER CACHES.. --out choice.json
    python benchmarks/banks.py measure FOLDER --queries 1500 --out resnet20.json
    python benchmarks/banks.py draw BIG [--rows 1281167] [--width 2048] [--seed 2]
    python benchmarks/banks.py fit BIG [--bits 4] [--samples N] --out fit-4.json
    python benchmarks/banks.py fit BIG --method vim --rows 200000 --out fit-vim.json
    python benchmarks/banks.py forward --out forward.json    # a network of ResNet-50's cost

`features` writes the inputs of the network's last layer. `choose` compares forms of a bank of `knn`
on sets that `measure` and `bank_large.py` do not report (`bank_choice.py` does so for `nnguide` and
`grood`): mnist and tinyimagenet_aux on ResNet-20, the readings of other networks in CACHES (folders
with `fit.npz`, `test.npz` and outliers), and a drawn set of seed 1. A product quantizer is trained
where faiss is installed. Rates are per second of the CPU, of one thread. BIG is a folder for a file
of `--rows` directions in float32 and their logits, which `bank_large.py` searches as it lies there.
"""

import argparse
import json
import resource
import time
import warnings
from collections.abc import Iterator, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

import bank_data
import numpy as np
import torch
from bank_data import OUTLIERS, Sets
from torch import Tensor

import gradood
from gradood.functional.codes import Codes, rotated
from gradood.functional.neighbors import AnyBank, Bank, CodedPolar, Polar, kth_distance
from gradood.metrics import auroc
from gradood.registry import create

CHOICE = ("mnist", "tinaux")
REPORTED = ("svhn", "textures", "cifar100", "tin")
SHARE = 8
"""The part of the memory that a bounded bank may take."""
MOST = 50
Scores = dict[str, Tensor]


def polar_of(units: Tensor) -> Polar:
    """Directions of length one."""
    return Polar(units, torch.zeros(len(units), dtype=torch.float64))


def auto(rows: int, classes: int) -> int:
    """The neighbor that `knn` takes."""
    return max(1, min(MOST, int((rows // classes) ** 0.5)))


def aurocs(scores: Scores) -> dict[str, float]:
    """In percent, of each set against ``"test"``."""
    known = scores["test"].numpy()
    return {
        name: round(100 * auroc(known, found.numpy()), 3)
        for name, found in scores.items()
        if name != "test"
    }


def scored(bank: AnyBank, sets: Sets, k: int, *, turned: bool = False) -> Scores:
    """Distances to the k-th nearest."""
    together = torch.cat(list(sets.values()))
    found = kth_distance(polar_of(rotated(together) if turned else together), bank, k)
    return dict(zip(sets, found.split([len(x) for x in sets.values()]), strict=True))


def coded(units: Tensor, bits: Literal[4, 8] = 4) -> Bank[CodedPolar]:
    """A bank in few bits per number."""
    return Bank(CodedPolar(Codes.of(units, bits), polar_of(units).log_length))


def product_quantized(units: Tensor, size: int) -> Tensor | None:
    """Directions as a product quantizer of `size` bytes gives them back; None without faiss."""
    try:
        faiss = import_module("faiss")
    except ModuleNotFoundError:
        return None
    faiss.omp_set_num_threads(1)
    quantizer = faiss.ProductQuantizer(units.shape[1], size, 8)
    quantizer.train(units[torch.randperm(len(units))[:20_000]].numpy())
    back = torch.from_numpy(quantizer.decode(quantizer.compute_codes(units.numpy())))
    return torch.nn.functional.normalize(back)


def forms(fit: Tensor, sets: Sets, classes: int) -> dict[str, dict[str, float]]:
    """AUROC of each form of the bank; all but the first take an eighth of the memory."""
    torch.manual_seed(0)
    rows, width = fit.shape
    order, k = torch.randperm(rows), auto(rows, classes)
    part, half = fit[order[: rows // SHARE]], fit[order[: rows // 2]]
    found = {
        "exact": scored(Bank(polar_of(fit)), sets, k),
        "sample, k scaled": scored(Bank(polar_of(part)), sets, max(1, round(k / SHARE))),
        "sample, k automatic": scored(Bank(polar_of(part)), sets, auto(len(part), classes)),
        "half of the rows, 8 bits": scored(coded(half, 8), sets, max(1, round(k / 2)), turned=True),
        "4 bits, rotated": scored(coded(fit), sets, k, turned=True),
    }
    back = product_quantized(fit, width // 2)
    if back is not None:
        found["product quantizer"] = scored(Bank(polar_of(back)), sets, k)
    return {form: aurocs(scores) for form, scores in found.items()}


def choose(given: argparse.Namespace) -> dict[str, Any]:
    """AUROC of the forms on the sets that choices are made on."""
    fit, sets, classes = bank_data.drawn(100_000, 512, 100, seed=1, queries=500)
    found = {"drawn, 100,000 × 512": forms(fit, sets, classes)}
    for folder in given.caches:
        names = [name for name in OUTLIERS if (folder / f"{name}.npz").exists()]
        fit, sets = bank_data.readings(folder, ("fit",), names, 1000)
        found[f"{folder.name}, {len(fit):,} × {fit.shape[1]}"] = forms(fit, sets, 10)
    fit, sets = bank_data.readings(given.folder, ("fit_a", "fit_b"), CHOICE, 2000)
    found[f"resnet20, {len(fit):,} × {fit.shape[1]}"] = forms(fit, sets, 10)
    return found


BOUNDED: tuple[tuple[str, Mapping[str, Any], Mapping[str, Any]], ...] = (
    ("knn", {"bits": 32}, {"bits": 4}),
    ("knn", {"bits": 32}, {"bits": 8}),
    ("knn", {"bits": 32}, {"bits": 8, "samples": 25_000}),
    ("knn", {"bits": 32}, {"samples": 50_000 // SHARE}),
    ("grood", {"ood_prototype": "class-mean"}, {"bits": 4, "samples": 40_000}),
    ("grood", {"ood_prototype": "class-mean"}, {"samples": 50_000 // SHARE}),
    ("nnguide", {"alpha": 1.0}, {"bits": 4, "samples": 44_000}),
    ("nnguide", {"alpha": 1.0}, {"bits": 4}),
    ("nnguide", {"alpha": 1.0}, {"samples": 50_000 // SHARE}),
    ("nnguide", {}, {"samples": 500}),
    ("vim", {}, {"alpha_samples": 50_000 // SHARE}),
    ("open-max", {}, {"tail_samples": 50_000 // SHARE}),
)
"""Method, options of the exact form, and those that bound it.

With lengths beside the codes, a few samples less than all are an eighth of the memory.
"""


def measure(given: argparse.Namespace) -> list[dict[str, Any]]:
    """AUROC of the detectors, exact and bounded, on ResNet-20."""
    model = bank_data.last_layer(given.folder)
    fit, labels = bank_data.raw(given.folder, ("fit_a", "fit_b"))
    batches = list(zip(fit.split(500), labels.split(500), strict=True))
    cap = given.queries
    sets = {n: bank_data.raw(given.folder, (n,))[0][:cap] for n in ("test", *REPORTED)}
    found = []
    for name, options, bound in BOUNDED:
        row: dict[str, Any] = {"method": name, "options": dict(options), "bound": dict(bound)}
        for form, chosen in (("exact", options), ("bounded", {**options, **bound})):
            monitor = gradood.Monitor(model, create(name, **chosen)).fit(batches)
            start = time.process_time()
            scores = {n: monitor.score(list(x.split(500))) for n, x in sets.items()}
            seconds = time.process_time() - start
            state = next(iter(monitor._session.state.bound.states.values()))  # type: ignore[union-attr]
            row[form] = {
                "auroc": aurocs(scores),
                "bytes": sum(t.numel() * t.element_size() for t in state.values()),
                "images_per_second": round(sum(map(len, sets.values())) / seconds, 1),
            }
        print(json.dumps(row), flush=True)
        found.append(row)
    return found


def big(folder: Path) -> tuple[Tensor, Sets, dict[str, Any]]:
    """Directions that lie on disk, memory-mapped; queries; and what they were drawn with."""
    facts = json.loads((folder / "facts.json").read_text())
    shape = (facts["rows"], facts["width"])
    mapped = np.memmap(folder / "fit.f32", np.float32, "r", shape=shape)
    queries = np.load(folder / "queries.npz")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch warns that the map cannot be written.
        fit = torch.from_numpy(mapped)
    return fit, {name: torch.from_numpy(queries[name]) for name in queries}, facts


def anonymous() -> float:
    """MiB of this process that are no file's."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(x.split()[1]) for x in lines if x.startswith("RssAnon")) / 1024


def detector_of(given: argparse.Namespace) -> Any:
    """What is fitted on the large set."""
    if given.method == "knn":
        return gradood.KNN(bits=given.bits or "auto", samples=given.samples)
    return create(given.method, **BIG_OPTIONS.get(given.method, {}))


BIG_OPTIONS: dict[str, dict[str, Any]] = {
    "grood": {"ood_prototype": "class-mean"},
    "nnguide": {"alpha": 1.0},
}


def fit_big(given: argparse.Namespace) -> dict[str, Any]:
    """Time and memory of a fit on the large set, as a monitor runs it."""
    fit, _, _ = big(given.folder)
    fit = fit[: given.rows]
    torch.manual_seed(0)
    outputs = 10 if given.method == "knn" else 1000
    head = torch.nn.Linear(fit.shape[1], outputs).eval()

    def batches() -> Iterator[Any]:
        for part in fit.split(1024):
            with torch.inference_mode():
                labels = head(part).argmax(1)
            yield part if given.method == "knn" else (part, labels.clone())

    before = anonymous()
    peak = bank_data.Peak(anonymous)
    start = time.process_time()
    with peak, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        monitor = gradood.Monitor(head, detector_of(given)).fit(batches())
    seconds = time.process_time() - start
    row = monitor.summary().detectors[0]
    return {
        "method": given.method,
        "rows": len(fit),
        "options": {"bits": given.bits or "auto", "samples": given.samples}
        if given.method == "knn"
        else BIG_OPTIONS.get(given.method, {}),
        "cpu_seconds": round(seconds, 1),
        "peak_MiB": round(peak.most - before),
        "after_MiB": round(anonymous() - before),
        "cost": row.cost,
        "warnings": sorted({str(w.message) for w in caught}),
        "max_rss_MiB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }


def forward(given: argparse.Namespace) -> dict[str, Any]:
    """Images per second of a network of ResNet-50's layers, with random weights."""
    network, found = bank_data.bottleneck_network().eval(), {}
    with torch.inference_mode():
        for batch in (1, 16):
            x = torch.randn(batch, 3, 224, 224)
            network(x)
            start = time.process_time()
            for _ in range(3):
                network(x)
            found[f"batch {batch}"] = round(3 * batch / (time.process_time() - start), 2)
    return {"images_per_second": found, "multiplications": bank_data.multiplications(network)}


def main() -> None:
    """What the command line names."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    steps = parser.add_subparsers(dest="step", required=True)
    actions = {
        "features": bank_data.features,
        "choose": choose,
        "measure": measure,
        "draw": bank_data.draw,
        "fit": fit_big,
        "forward": forward,
    }
    for name in actions:
        step = steps.add_parser(name)
        if name != "forward":
            step.add_argument("folder", type=Path)
        if name == "choose":
            step.add_argument("caches", type=Path, nargs="*")
        step.add_argument("--out", type=Path)
        for option, default in (("rows", 1_281_167), ("width", 2048), ("classes", 1000)):
            step.add_argument(f"--{option}", type=int, default=default)
        step.add_argument("--seed", type=int, default=2)
        step.add_argument("--queries", type=int, default=1500)
        step.add_argument("--bits", type=int)
        step.add_argument("--method", default="knn")
        step.add_argument("--samples", type=int)
    given = parser.parse_args()
    torch.set_num_threads(1)
    found = actions[given.step](given)
    if given.out:
        given.out.write_text(json.dumps(found, indent=1) + "\n")
    elif found is not None:
        print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
