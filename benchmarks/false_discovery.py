"""The share of known items among those called unknown, over many draws of calibration and stream.

    python benchmarks/false_discovery.py --work FOLDER [--draws 200] [--known 6000]

The detector of triage.py: ResNet-20 of ../shared on CIFAR-10 with energy, knn, mahalanobis++, vim
and react, combined by Fisher, fitted on the first 5,000 images of `cifar10_train_a`. The scores of
the first images of `cifar10_test` and of the first 1,000 of each unknown set are computed once and
kept in the folder. Each draw takes 2,000 known images to calibrate on, and a stream of 1,200 others
and 200 of each unknown set. Of each rate: the mean share of known items among those called unknown
with its standard error over the draws, the standard deviation of a single draw, and the bound, the
rate times the share of known items in the stream. Draws are of one pool and so not independent: the
standard error is that of the mean over draws of this pool.
"""

import argparse
import json
from pathlib import Path

import torch
from attribution import images_of
from pointing import cifar_network
from torch import Tensor
from triage import COUNTS, KNOWN, METHODS, SETS

import gradood
from gradood._engine.batches import Batch
from gradood.calibration import Promise
from gradood.calibration._rule import DecisionRule
from gradood.calibration.results import BatchScores
from gradood.monitor._calibration_scores import CalibrationScores
from gradood.triage import steps

NETWORK, FIT, CALIBRATION, UNKNOWN, BATCH = "resnet20", 5000, 2000, 1000, 100
RATES = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5)


def scored(work: Path, known: int) -> dict[str, BatchScores]:
    """Scores of each set, from the folder if they are there."""
    file = work / f"scores-{known}.pt"
    names = METHODS.split(",")
    if not file.exists():
        x, y = images_of(NETWORK, "cifar10_train_a", FIT)
        monitor = gradood.Monitor(
            cifar_network(NETWORK, Path()), names, combine="fisher", progress=False
        )
        monitor.fit(list(zip(x.split(BATCH), y.split(BATCH), strict=True)))
        session = monitor._session
        found: dict[str, dict[str, Tensor]] = {}
        for name in SETS:
            images, _ = images_of(NETWORK, name, known if name == KNOWN else UNKNOWN)
            batches = (Batch(part) for part in images.split(BATCH))
            scores = CalibrationScores.of(session.unbound, session.state.bound, batches).scores
            found[name] = {n: scores.scores[n] for n in names} | {
                "label": scores.label,
                "keys": scores.keys,
            }
        torch.save(found, file)
    kept = torch.load(file)
    return {
        name: BatchScores(
            {n: table[n] for n in names},
            table["label"],
            torch.zeros(len(table["label"]), dtype=torch.bool),
            table["keys"],
        )
        for name, table in kept.items()
    }


def drawn(
    sets: dict[str, BatchScores], generator: torch.Generator
) -> tuple[BatchScores, BatchScores, Tensor]:
    """A calibration, a stream, and which of the latter are known."""
    parts: list[BatchScores] = []
    calibration: BatchScores | None = None
    for name, count in zip(SETS, COUNTS, strict=True):
        order = torch.randperm(len(sets[name]), generator=generator)
        parts.append(sets[name].rows(order[:count]))
        if name == KNOWN:
            calibration = sets[name].rows(order[count : count + CALIBRATION])
    assert calibration is not None
    known = torch.arange(sum(COUNTS)) < COUNTS[0]
    return calibration, BatchScores.joined(parts, METHODS.split(",")), known


def shares(calibration: BatchScores, stream: BatchScores, known: Tensor) -> list[tuple[int, float]]:
    """Of each rate, how many are called unknown, and the share of known ones; 0 of none."""
    rule = DecisionRule.of(calibration, Promise(0.05), combine="fisher")
    combined = rule.results(stream).combined
    assert combined is not None
    p_value = combined.p_value
    found: list[tuple[int, float]] = []
    for step in steps(p_value.numpy(), RATES):
        called = p_value <= step.largest if step.count else torch.zeros_like(known)
        found.append((step.count, float(known[called].double().mean()) if step.count else 0.0))
    return found


def main() -> None:
    """Print a table, and its figures as JSON."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--draws", type=int, default=200)
    parser.add_argument("--known", type=int, default=6000)
    given = parser.parse_args()
    given.work.mkdir(parents=True, exist_ok=True)
    sets = scored(given.work, given.known)
    each = [shares(*drawn(sets, torch.Generator().manual_seed(k))) for k in range(given.draws)]
    called, share = torch.tensor(each, dtype=torch.float64).unbind(2)
    part = COUNTS[0] / sum(COUNTS)
    print("| rate chosen | called unknown, mean | known among these, mean | one draw | bound |")
    print("|---:|---:|---:|---:|---:|")
    for k, rate in enumerate(RATES):
        mean, spread = float(share[:, k].mean()), float(share[:, k].std())
        error = spread / given.draws**0.5
        print(
            f"| {rate:.0%} | {float(called[:, k].mean()):,.0f} | {mean:.2%} ± {error:.2%} | "
            f"± {spread:.2%} | {rate * part:.1%} |"
        )
    print(json.dumps({"draws": given.draws, "share": share.mean(0).tolist()}))


if __name__ == "__main__":
    main()
