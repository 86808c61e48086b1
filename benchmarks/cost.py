"""What each detector costs, as a ratio to the plain forward pass of the same model and batch.

    python benchmarks/cost.py [--models resnet20,densenet101] [--batch 128] [--rounds 7] [--json F]

Every round times each detector once, in a shuffled order, with a plain forward right before and
after it; the median of the ratios is printed. Peak memory is the largest sum of live tensor bytes
that the torch profiler sees during one call, over that of the plain forward. Weights of `../shared`
are used where present; cost does not depend on them much, except for the share of active units.
"""

import argparse
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from measure import interleaved, peak_bytes
from torch import Tensor, nn

import gradood
from gradood import data, models

SHARED = Path(os.environ.get("GRADOOD_SHARED", Path(__file__).parents[2] / "shared"))
METHODS = [
    "msp",
    "max-logit",
    "energy",
    "gradnorm",
    "line",
    "knn",
    "mahalanobis",
    "grood",
    "gaia-z",
    "gaia-a",
]


def plain(model: nn.Module, x: Tensor) -> Callable[[], object]:
    """The forward pass as a user would time it."""

    def call() -> object:
        with torch.inference_mode():
            return model(x)

    return call


def enlarge(monitor: gradood.Monitor, bank: int) -> None:
    """Enlarge the banks of a fitted monitor to `bank` rows: its own, repeated with changes."""
    for name, state in monitor.states.items():
        if "unit" in state:
            times = -(-bank // len(state["unit"]))
            unit = state["unit"].repeat(times, 1)[:bank]
            unit = nn.functional.normalize(unit + 0.05 * torch.randn_like(unit), dim=1)
            length, order = state["log_length"].repeat(times)[:bank].sort(stable=True)
            monitor._session.state.bound.states[name] = {
                **state,
                "unit": unit[order],
                "log_length": length,
            }


def images(name: str, batch: int) -> Tensor:
    """CIFAR-10 test images where they are at hand, else noise."""
    source = SHARED / "data" / "cifar10_test.parquet"
    if not source.exists():
        return torch.randn(batch, 3, 32, 32)
    preprocess = data.Preprocess(**models.REFERENCES[name].preprocess)
    rows = data.open_images(f"{source}[:{batch}]", preprocess)
    return torch.stack([rows[i][0] for i in range(batch)])


def network(
    name: str, batch: int, bank: int, rounds: int, methods: list[str]
) -> dict[str, dict[str, float]]:
    """Ratios of time and of peak memory for one reference network."""
    model = models.build(name).eval()
    weights = SHARED / "weights" / f"{name}_cifar10.safetensors"
    if weights.exists():
        models.load_weights(model, weights)
    torch.manual_seed(0)
    x, y = images(name, batch), torch.arange(batch) % 10
    detectors = {m: gradood.GROOD(bank="all") if m == "grood" else m for m in METHODS}
    monitors = {m: gradood.Monitor(model, detectors[m], progress=False) for m in methods}
    monitors["all ten"] = gradood.Monitor(model, list(detectors.values()), progress=False)
    calls: dict[str, Callable[[], object]] = {"plain forward": plain(model, x)}
    for key, monitor in monitors.items():
        monitor.fit([(x, y)])
        enlarge(monitor, bank)
        calls[key] = lambda monitor=monitor: monitor.score(x)
    ratios = interleaved(calls, rounds)
    floor = peak_bytes(calls["plain forward"])
    return {
        key: {
            "time": ratios[key],
            "memory": peak_bytes(call) / floor,
        }
        for key, call in calls.items()
    }


def main() -> int:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", default="resnet20,densenet101")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--banks", default="5000,25000,50000")
    parser.add_argument("--methods", default=",".join(METHODS))
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    results: dict[str, dict[str, dict[str, float]]] = {}
    for name in given.models.split(","):
        for i, bank in enumerate(map(int, given.banks.split(","))):
            key = f"{name}, batch {given.batch}, banks of {bank:,}"
            rounds = given.rounds if i == 0 else max(3, given.rounds // 2)
            methods = given.methods.split(",") if i == 0 else ["knn", "grood"]
            results[key] = network(name, given.batch, bank, rounds, methods)
            print(f"\n{key}\n{'':16}{'time':>8}{'memory':>8}")
            for method, ratio in results[key].items():
                print(f"{method:16}{ratio['time']:8.3f}{ratio['memory']:8.3f}", flush=True)
    if given.json:
        given.json.write_text(json.dumps(results, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
