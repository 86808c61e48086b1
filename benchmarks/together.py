"""All methods of one look together, and the guard, as ratios to the plain forward pass.

    python benchmarks/together.py [--model resnet56] [--batch 128] [--fit 1500] [--rounds 5]

Of one process on one thread, by its CPU time, which other work on the machine disturbs less than a
clock: each call is between two plain forwards; the median of the ratios. On images of ../shared.
"""

import argparse
import os
import statistics
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

import gradood
from gradood import data, models

SHARED = Path(os.environ.get("GRADOOD_SHARED", Path(__file__).parents[2] / "shared"))
SECOND_PASS = ("odin", "i-odin", "adascale-a", "adascale-l", "blood")
ZERO_SHOT = ("mcm", "gl-mcm", "neg-label")
RECENT = (
    "actsub", "cadref", "caref", "davis", "itp", "logit-gap", "optfs", "ora", "projection-share",
    "radial-mahalanobis", "ras", "relation", "vra++", "weiper-kld",
)  # fmt: skip
"""Methods that came with ADR 0034 and 0037."""


def seconds(call: Callable[[], object]) -> float:
    """CPU time of one call."""
    start = time.process_time()
    call()
    return time.process_time() - start


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--model", default="resnet56")
    for name, value in (("batch", 128), ("fit", 1500), ("rounds", 5)):
        parser.add_argument(f"--{name}", type=int, default=value)
    options = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    weights = SHARED / "weights" / f"{options.model}_cifar10.safetensors"
    model = models.load_weights(models.build(options.model), weights).eval()
    preprocess = data.Preprocess(**models.REFERENCES[options.model].preprocess)

    def part(name: str, first: int, last: int) -> tuple[Tensor, Tensor]:
        images = data.open_images(SHARED / "data" / f"{name}.parquet", preprocess)
        rows = [images[index] for index in range(first, last)]
        return torch.stack([x for x, _ in rows]), torch.tensor([y for _, y in rows])

    x, y = part("cifar10_train_a", 0, options.fit)
    batch, _ = part("cifar10_test", 0, options.batch)
    known, _ = part("cifar10_test", 1000, 1600)
    left_out = SECOND_PASS + ZERO_SHOT
    names = [method.name for method in gradood.methods() if method.name not in left_out]
    groups = {
        "all of one look": names,
        "those before ADR 0034": [name for name in names if name not in RECENT],
        "those since": [name for name in names if name in RECENT],
    }
    calls: dict[str, Callable[[], object]] = {}
    for label, chosen in groups.items():
        monitor = gradood.Monitor(model, chosen, progress=False)
        monitor.fit(list(zip(x.split(128), y.split(128), strict=True)))
        calls[f"{label} ({len(chosen)})"] = lambda monitor=monitor: monitor.score(batch)
    guard = gradood.guard(model, [known])
    calls[f"guard ({', '.join(guard.detectors)})"] = lambda: guard(batch)

    def forward() -> None:
        with torch.inference_mode():
            model(batch)

    forward()
    ratios: dict[str, list[float]] = {label: [] for label in calls}
    for _ in range(options.rounds):
        for label, call in calls.items():
            before, took, after = seconds(forward), seconds(call), seconds(forward)
            ratios[label].append(2 * took / (before + after))
    for label, found in ratios.items():
        print(f"| {options.model} | {label} | {statistics.median(found):.2f} |", flush=True)


if __name__ == "__main__":
    main()
