"""Whether copies of one input keep the false-alarm rate: other batch sizes, machines, samplings.

    python benchmarks/copies.py [--quick] [--out docs/results/copies.md]

1. *Rounding.* A share of the inputs is one image, whose score lies at the threshold of each method
   and combination, so that all of its copies are flagged or none. Calibrated in batches of 64,
   decided singly, in batches of 5 and 64, shuffled, and with other instructions in a process of
   its own. Scores are those of the real methods on the real networks; inputs are dealt to
   calibration and test again and again, so that the mean false-alarm rate has a standard error.
2. *Sampling.* Copies that are no new samples: a sampler with replacement, a set repeated, and a
   set with copies in its nature repeated.

Ends with 1 if a mean is above the promise by more than two standard errors.
"""

import argparse
import math
import os
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import get_args

import numpy as np
import torch
from torch import Tensor, nn

import gradood
from gradood._engine.reproducibility import _tolerance
from gradood._engine.rows import jittered
from gradood.bench.folder import commit
from gradood.calibration import Promise, required
from gradood.calibration._curve import How
from gradood.calibration._rule import DecisionRule
from gradood.calibration.results import BatchScores
from gradood.data import Preprocess, loader, open_images
from gradood.errors import CalibrationError
from gradood.models import REFERENCES, build, load_weights
from gradood.testing.networks import networks

SHARED = Path(os.environ.get("GRADOOD_SHARED", Path(__file__).resolve().parents[2] / "shared"))
PROMISE = Promise(0.05)
SHARES = (0.1, 0.2)
PERCENTILE = 0.97
OTHER = {
    "ATEN_CPU_CAPABILITY": "default",
    "ONEDNN_MAX_CPU_ISA": "SSE41",
    "MKL_CBWR": "COMPATIBLE",
}
Scores = dict[str, Tensor]


@dataclass(frozen=True)
class Plan:
    """How much is tried.

    Attributes:
        rows: distinct inputs per network, dealt half and half.
        fit: inputs that the methods learn from.
        repeats: deals per method.
        fused: deals per combination.
        samplings: calibrations per line of the second table.
    """

    rows: int = 160
    fit: int = 200
    repeats: int = 40
    fused: int = 20
    samplings: int = 400


QUICK = Plan(rows=120, fit=120, repeats=10, fused=5, samplings=100)


@dataclass(frozen=True)
class Row:
    """One network and share of copies: the worst mean of all methods, and of all combinations.

    Attributes:
        network: its name.
        share: of inputs that are one image.
        kind: methods or combinations.
        condition: how the inputs were decided.
        worst: largest mean false-alarm rate.
        error: its standard error.
        name: of the method or combination.
        broken: how many are above the promise by more than two standard errors.
        exact: as many if scores are compared to the last bit.
        count: of methods or combinations.
    """

    network: str
    share: float
    kind: str
    condition: str
    worst: float
    error: float
    name: str
    broken: int
    exact: int
    count: int


# ---------------------------------------------------------------- scores


def inputs_of(name: str, plan: Plan) -> tuple[nn.Module, Tensor, Tensor]:
    """A network, inputs, and their labels: CIFAR-10 for ResNet-20 where it is at hand."""
    size = plan.fit + plan.rows
    if name != "resnet20":
        network = networks()[name]
        return network.model(), network.inputs(size, seed=1), network.labels(size)
    torch.manual_seed(0)
    model = build(name).eval()
    reference = REFERENCES[name]
    weights = SHARED / f"weights/{reference.weights}.safetensors"
    if not weights.exists():
        return model, torch.randn(size, 3, 32, 32), torch.arange(size) % 10
    images = open_images(
        f"{SHARED}/data/cifar10_test.parquet[:{size}]", Preprocess(**reference.preprocess)
    )
    x, y = (torch.cat(parts) for parts in zip(*loader(images), strict=True))
    return load_weights(model, weights), x, y


def conditions(monitor: gradood.Monitor, x: Tensor) -> dict[str, Scores]:
    """Scores of all rows, by how they were batched."""
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(5))
    shuffled = monitor.score(list(x[order].split(64)))
    return {
        "by 64": monitor.score(list(x.split(64))),
        "singly": monitor.score(list(x.split(1))),
        "by 5": monitor.score(list(x.split(5))),
        "shuffled, by 64": {name: s[order.argsort()] for name, s in shuffled.items()},
    }


def scored(name: str, plan: Plan) -> tuple[dict[str, Scores], Scores]:
    """Scores in every condition, and of inputs moved by one unit in the last place."""
    model, x, y = inputs_of(name, plan)
    methods = [method.name for method in gradood.methods()]
    monitor = gradood.Monitor(model, methods, skip_unusable=True, progress=False)
    monitor.fit(list(zip(x[: plan.fit].split(50), y[: plan.fit].split(50), strict=True)))
    rows = x[plan.fit :]
    found, moved = conditions(monitor, rows), jittered(rows)
    assert moved is not None
    with tempfile.TemporaryDirectory() as folder:
        monitor.save(f"{folder}/d.safetensors")
        torch.save((model, rows), f"{folder}/model.pt")
        child = [sys.executable, __file__, "--child", folder]
        subprocess.run(child, env=os.environ | OTHER, check=True)
        for batch, scores in torch.load(f"{folder}/scores.pt", weights_only=True).items():
            found[f"other instructions, {batch}"] = scores
    return found, monitor.score(list(moved.split(64)))


def child(folder: str) -> None:
    """Scores with the instructions of this process."""
    model, rows = torch.load(f"{folder}/model.pt", weights_only=False)
    monitor = gradood.load(f"{folder}/d.safetensors", model, override="other instructions")
    found = {"by 64": list(rows.split(64)), "singly": list(rows.split(1))}
    torch.save({k: monitor.score(v) for k, v in found.items()}, f"{folder}/scores.pt")


# ---------------------------------------------------------------- rounding


def allowed(found: dict[str, Scores], moved: Scores, copied: int) -> dict[str, float]:
    """Tolerances, as `Monitor.calibrate` measures them on the copied image and 15 others."""
    size = len(next(iter(found["by 64"].values())))
    probe = torch.tensor([copied, *[row for row in range(16) if row != copied][:15]])
    of = torch.cat([torch.arange(size), probe, probe])
    return {
        name: _tolerance(
            torch.cat([scores, found["singly"][name][probe], moved[name][probe]]), of, size
        )
        for name, scores in found["by 64"].items()
    }


def picked(scores: Scores, rows: Tensor) -> BatchScores:
    """Some rows as a batch."""
    return BatchScores(
        {name: column[rows] for name, column in scores.items()},
        torch.zeros(len(rows), dtype=torch.int64),
        torch.zeros(len(rows), dtype=torch.bool),
        rows.clone(),
    )


def deals(
    found: dict[str, Scores],
    tolerances: dict[str, float],
    share: float,
    copied: int,
    repeats: int,
    combine: How | None,
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """False-alarm rates (repeats,) by condition, with tolerances and to the last bit.

    Each deal parts the other rows at random in two halves. Each of the calibration rows is the
    copied image with probability `share`, and so is an input to come. `found` has one method,
    unless they are combined.
    """
    rng = np.random.default_rng(copied)
    size = len(next(iter(found["by 64"].values())))
    names = tuple(found["by 64"])
    rates = torch.empty(2, len(found), repeats, dtype=torch.float64)
    for repeat in range(repeats):
        dealt = torch.from_numpy(rng.permutation(np.delete(np.arange(size), copied)))
        half = len(dealt) // 2
        known, asked = dealt[:half], torch.cat([torch.tensor([copied]), dealt[half:]])
        known = torch.where(torch.from_numpy(rng.random(half) < share), copied, known)
        batch = picked(found["by 64"], known)
        rule = DecisionRule.of(batch, PROMISE, combine=combine, tolerances=tolerances)
        new = {n: torch.cat([scores[n][asked] for scores in found.values()]) for n in names}
        for place, one in enumerate((rule, exact(rule))):
            flags = decided(one, new, combine).double().reshape(len(found), -1)
            rates[place, :, repeat] = share * flags[:, 0] + (1 - share) * flags[:, 1:].mean(1)
    now, before = (dict(zip(found, part, strict=True)) for part in rates)
    return now, before


def decided(rule: DecisionRule, scores: Scores, combine: How | None) -> Tensor:
    """Decisions of the combination, or of the only method."""
    batch = picked(scores, torch.arange(len(next(iter(scores.values())))))
    name = None if combine else next(iter(scores))
    parts = (rule, *rule.fewer_copies)
    return torch.stack([part._decision(batch, name).is_ood for part in parts]).all(0)


def exact(rule: DecisionRule) -> DecisionRule:
    """The rule of gradood 0.1.0: scores compared to the last bit, copies counted as samples."""
    each = {name: replace(part, tolerance=0.0) for name, part in rule.each.items()}
    return replace(rule, each=each, fewer_copies=())


def at_percentile(scores: Tensor) -> int:
    """The row whose copies decide: few others score above it."""
    return int(scores.argsort()[int(PERCENTILE * len(scores))])


def tried(
    found: dict[str, Scores], moved: Scores, share: float, plan: Plan
) -> Iterator[tuple[str, str, dict[str, Tensor], dict[str, Tensor]]]:
    """Kind, name, and by condition the rates with tolerances and to the last bit."""
    for name in found["by 64"]:
        mine = {condition: {name: scores[name]} for condition, scores in found.items()}
        copied = at_percentile(mine["by 64"][name])
        tolerances = allowed(mine, moved, copied)
        yield "methods", name, *deals(mine, tolerances, share, copied, plan.repeats, None)
    batch = picked(found["by 64"], torch.arange(plan.rows))
    for how in get_args(How):
        rule = DecisionRule.of(batch, PROMISE, combine=how)
        assert rule.fusion is not None
        copied = at_percentile(rule.fusion.statistic(batch.scores))
        tolerances = allowed(found, moved, copied)
        yield "combinations", how, *deals(found, tolerances, share, copied, plan.fused, how)


def rounding(name: str, plan: Plan) -> Iterator[Row]:
    """The lines of one network."""
    found, moved = scored(name, plan)
    for share in SHARES:
        lines: dict[tuple[str, str], list[tuple[float, float, str, bool, bool]]] = {}
        for kind, method, now, before in tried(found, moved, share, plan):
            for condition, rates in now.items():
                line = (*estimate(rates), method, above(rates), above(before[condition]))
                lines.setdefault((kind, condition), []).append(line)
        for (kind, condition), group in lines.items():
            worst = max(group)
            broken, before = sum(line[3] for line in group), sum(line[4] for line in group)
            mean, error, method = worst[:3]
            yield Row(name, share, kind, condition, mean, error, method, broken, before, len(group))


def estimate(rates: Tensor) -> tuple[float, float]:
    """Mean and its standard error."""
    return float(rates.mean()), float(rates.std()) / math.sqrt(len(rates))


def above(rates: Tensor) -> bool:
    """Whether the mean is above the promise by more than two standard errors."""
    mean, error = estimate(rates)
    return mean > PROMISE.fpr + 2 * error


# ---------------------------------------------------------------- sampling


Draw = Callable[[np.random.Generator], tuple[np.ndarray, np.ndarray, float]]


def repeated(distinct: int, times: int) -> Draw:
    """Distinct normal scores, each `times`; no copies among inputs to come."""

    def draw(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, float]:
        scores = rng.standard_normal(distinct)
        return np.tile(scores, times), np.tile(np.arange(distinct), times), 0.0

    return draw


def replaced(distinct: int, size: int) -> Draw:
    """Drawn with replacement from distinct ones."""

    def draw(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, float]:
        rows = rng.integers(0, distinct, size)
        return rng.standard_normal(distinct)[rows], rows, 0.0

    return draw


def natural(size: int, share: float, times: int) -> Draw:
    """A share of all inputs is one image with the score 1.9; the set is repeated."""

    def draw(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, float]:
        copied = rng.random(size) < share
        scores = np.where(copied, ATOM, rng.standard_normal(size))
        rows = np.where(copied, size, np.arange(size))
        return np.tile(scores, times), np.tile(rows, times), share

    return draw


ATOM = 1.9
SAMPLINGS: dict[str, Draw] = {
    "1 image, 19 times": repeated(1, 19),
    "20 images, 15 times": repeated(20, 15),
    "40 images, twice": repeated(40, 2),
    "100 images, 10 times": repeated(100, 10),
    "300 images, 3 times": repeated(300, 3),
    "300 drawn from 150 with replacement": replaced(150, 300),
    "300, of which 3 % one image": natural(300, 0.03, 1),
    "300, of which 20 % one image": natural(300, 0.2, 1),
    "300, of which 3 % one image, all twice": natural(300, 0.03, 2),
    "300, of which 20 % one image, all 5 times": natural(300, 0.2, 5),
}
PROMISES = (Promise(0.05), Promise(0.0125), Promise(0.05, "pac"), Promise(0.01, "pac"))


def rule_of(scores: np.ndarray, rows: np.ndarray, promise: Promise) -> DecisionRule:
    """The rule of a monitor with one detector."""
    size = len(scores)
    return DecisionRule.of(
        BatchScores(
            {"x": torch.from_numpy(scores)},
            torch.zeros(size, dtype=torch.int64),
            torch.zeros(size, dtype=torch.bool),
            torch.from_numpy(rows).long(),
        ),
        promise,
    )


def sampling(draw: Draw, promise: Promise, repeats: int) -> tuple[str, bool]:
    """A cell: the mean rate (marginal), the share of calibrations above α (PAC), or a refusal."""
    rng = np.random.default_rng(7)
    rates = []
    for _ in range(repeats):
        scores, rows, share = draw(rng)
        try:
            rule = rule_of(scores, rows, promise)
        except CalibrationError as error:
            needed = "distinct" in str(error) or len(scores) < required(promise)
            return "refused", needed
        threshold = max(r.each["x"].threshold for r in (rule, *rule.fewer_copies))
        tail = 0.5 * math.erfc(threshold / math.sqrt(2))
        rates.append((1 - share) * tail + share * (threshold < ATOM))
    found = torch.tensor(rates, dtype=torch.float64)
    if promise.mode == "pac":
        found = (found > promise.fpr * (1 + 1e-12)).double()
    limit = 1 - promise.confidence if promise.mode == "pac" else promise.fpr
    mean, error = estimate(found)
    return f"{100 * mean:.2f} ± {100 * error:.2f} %", mean <= limit + 2 * error


# ---------------------------------------------------------------- page


def page(rows: list[Row], plan: Plan, seconds: float) -> tuple[str, bool]:
    """Markdown, and whether every promise was kept."""
    held = all(row.broken == 0 for row in rows)
    lines = [
        "# Copies keep the false-alarm rate",
        "",
        f"{datetime.now(UTC).date()}, commit {commit() or 'unknown'}, torch {torch.__version__}, "
        f"{seconds / 60:.1f} minutes. Made with",
        "",
        f"    python {' '.join(sys.argv)}",
        "",
        "## Rounding",
        "",
        f"Promised: {100 * PROMISE.fpr:g} % false alarms on average. A share of the inputs is one",
        "image, chosen for each method and combination at the 97th percentile of its scores.",
        f"Calibrated in batches of 64 on {plan.rows // 2} of {plan.rows} inputs, dealt anew "
        f"{plan.repeats} times ({plan.fused} for",
        "combinations); *worst* is the largest mean over all methods or combinations with its",
        "standard error (SE), *above* how many have a mean above the promise + 2 SE, *exact* how",
        "many would if scores were compared to the last bit, as gradood 0.1.0 did. Other",
        f"instructions: {', '.join(f'`{k}={v}`' for k, v in OTHER.items())}, a process of its own.",
        "",
        "| network | copies | of | decided | worst ± SE | | above | exact |",
        "|---|---:|---|---|---:|---|---:|---:|",
    ]
    lines += [
        f"| {r.network} | {100 * r.share:g} % | {r.count} {r.kind} | {r.condition} | "
        f"{100 * r.worst:.2f} ± {100 * r.error:.2f} % | `{r.name}` | {r.broken} | {r.exact} |"
        for r in rows
    ]
    lines += [
        "",
        "## Sampling",
        "",
        f"Normal scores; {plan.samplings:,} simulated calibrations for each cell. Marginal: the",
        "mean rate, at most α + 2 SE. PAC: the share of calibrations with a rate above α, at most",
        "5 % + 2 SE. Refused: fewer distinct contents than the promise needs.",
        "",
        "| calibration | " + " | ".join(f"{100 * p.fpr:g} % {p.mode}" for p in PROMISES) + " |",
        "|---|" + "---:|" * len(PROMISES),
    ]
    for name, draw in SAMPLINGS.items():
        cells = [sampling(draw, promise, plan.samplings) for promise in PROMISES]
        held &= all(kept for _, kept in cells)
        shown = [cell if kept else f"**{cell}**" for cell, kept in cells]
        lines.append(f"| {name} | {' | '.join(shown)} |")
    verdict = "Every promise was kept." if held else "**A promise was broken.**"
    return "\n".join([*lines[:2], verdict, "", *lines[2:]]) + "\n", held


def main() -> int:
    """Score, deal, and write the page."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--networks", default="resnet20,plain-cnn,transformer")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--child", help=argparse.SUPPRESS)
    given = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    if given.child:
        child(given.child)
        return 0
    plan, start = QUICK if given.quick else Plan(), time.perf_counter()
    rows: list[Row] = []
    for name in given.networks.split(","):
        rows += rounding(name, plan)
        print(f"{name}: {time.perf_counter() - start:.0f} s", file=sys.stderr)
    text, held = page(rows, plan, time.perf_counter() - start)
    print(text)
    if given.out:
        given.out.write_text(text)
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main())
