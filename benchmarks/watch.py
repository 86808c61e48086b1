"""Whether `gradood.Watch` keeps its promises, and how soon it tells: docs/results/watch.md.

    python benchmarks/watch.py [--quick] [--only W1,W4] [--scores FILE] [--out FILE.md]

Simulated streams go through the cells, p-values, bets and alarms of `gradood.watch`, a thousand at
a time; some of them go through `gradood.Watch` itself, which must give the same bits. W3 is on real
scores, of ResNet-20 on the images of ../shared, which are kept in a file (--scores).

Ends with 1 if a line of the specification does not hold.
"""

import argparse
import math
import os
import signal
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

import gradood
from gradood.bench.folder import commit
from gradood.calibration import Calibration, Promise, fuse
from gradood.calibration.fitting import calibrated
from gradood.data import Preprocess, loader, open_images
from gradood.models import REFERENCES, build, load_weights
from gradood.watch._bounds import tail_bounds
from gradood.watch._cells import Cells
from gradood.watch._foresight import Streams
from gradood.watch._random import CALIBRATION_TIES, NOISE, TIES, uniforms
from gradood.watch._steps import Alarms

SHARED = Path(os.environ.get("GRADOOD_SHARED", Path(__file__).resolve().parents[2] / "shared"))
ALPHA, RATE = 0.01, 10_000
EXACT, BOUNDED = Alarms(1 / ALPHA, RATE, True), Alarms(2 / ALPHA, RATE, False)
FIXED = Alarms(1 / ALPHA, RATE, False)
"""The bets on rising scores alone, as p-values of a fixed set with ties are too large by design."""
KINDS = ("fixed", "marginal", "pac")
Draw = Callable[[np.random.Generator, Any], Any]


@dataclass
class Line:
    """One line of the specification: what it asks for, what was found, and whether it holds."""

    name: str
    asked: str
    found: str
    holds: bool


@dataclass(frozen=True)
class Size:
    """How much is simulated: streams and steps, and streams of the long ones."""

    streams: int = 1000
    steps: int = 20_000
    long_streams: int = 200
    long_steps: int = 100_000
    kills: int = 50


QUICK = Size(100, 2000, 20, 5000, 5)


# -- simulation ---------------------------------------------------------------------------


def cells_of(scores: np.ndarray, seed: int) -> Cells:
    """Cells of calibration scores in any order, as a watch with this seed has."""
    return Cells.of(np.sort(scores), uniforms(seed, CALIBRATION_TIES, np.arange(len(scores))))


def bounds_of(cells: Cells) -> np.ndarray:
    """p-values of the cells in PAC mode."""
    risk = ALPHA / 2 / (len(cells) - 1)
    return np.append(tail_bounds(cells.samples, cells.ranks, risk), 1.0)


@dataclass
class Run:
    """First alarm of each stream (0: none), alarms of the detector, highest evidence."""

    first: np.ndarray
    warning: np.ndarray
    warnings: int
    highest: np.ndarray


def run(streams: Streams, alarms: Alarms, p_values: Iterator[np.ndarray], *, until: bool) -> Run:
    """Follow some streams.

    Args:
        streams: before the first step.
        alarms: when to raise them.
        p_values: (S,) of each step, or (G, S).
        until: stop once every stream has both alarms.
    """
    count = streams.capital.shape[1]
    first, warning = np.zeros(count, np.int64), np.zeros(count, np.int64)
    highest, total = np.ones(count), 0
    for p in p_values:
        ever, rate = streams.advance(p)
        np.maximum(highest, ever, out=highest)
        first[(first == 0) & (ever >= alarms.level)] = streams.step
        over = rate >= alarms.rate
        if over.any():
            warning[(warning == 0) & over] = streams.step
            total += int(over.sum())
            streams.capital[1, over] = 0
        if until and first.all() and warning.all():
            break
    return Run(first, warning, total, highest)


def scored(
    kind: str, draw: Draw, n: int, size: tuple[int, int], rng: np.random.Generator, first: int = 0
) -> tuple[Run, list[tuple[np.ndarray, np.ndarray]]]:
    """Streams of scores and calibration scores drawn alike; also those of the first three.

    Their seeds are counted from `first`.
    """
    count, steps = size
    calibration = [draw(rng, n) for _ in range(count)]
    flow = [draw(rng, steps) for _ in range(count)]
    numbers = np.arange(1, steps + 1)
    if kind == "fixed":
        streams = Streams(np.array([1]), None, FIXED, count)
        p = np.empty((steps, count))
        for s, (held, new) in enumerate(zip(calibration, flow, strict=True)):
            p[:, s] = (1 + n - np.searchsorted(np.sort(held), new)) / (n + 1)
        return run(streams, FIXED, iter(p), until=False), []
    found, noise = np.empty((steps, count), np.int16), np.empty((steps, count))
    for s, (held, new) in enumerate(zip(calibration, flow, strict=True)):
        cells = cells_of(held, first + s)
        noise[:, s] = uniforms(first + s, NOISE, numbers)
        if kind == "pac":
            found[:, s] = cells.find_conservative(new)
        else:
            found[:, s] = cells.find(new, uniforms(first + s, TIES, numbers))
    alarms = BOUNDED if kind == "pac" else EXACT
    streams = Streams(cells.sizes, bounds_of(cells) if kind == "pac" else None, alarms, count)
    p_values = (streams.p_values(a, b) for a, b in zip(found, noise, strict=True))
    return run(streams, alarms, p_values, until=False), list(
        zip(calibration[:3], flow[:3], strict=True)
    )


def placed(
    kind: str,
    n: int,
    size: tuple[int, int],
    rng: np.random.Generator,
    *,
    reset: bool = False,
    share: float = 0.0,
    ood: Draw | None = None,
    change: int = 0,
) -> Run:
    """Streams of places on the true scale, 0 = most extreme; a share of others from `change` on."""
    count, steps = size
    alarms = {"pac": BOUNDED, "fixed": FIXED, "marginal": EXACT}[kind]
    cells = cells_of(rng.random(n), 0)
    held = np.sort(rng.random((count, n)), 1)
    cuts = held[:, cells.ranks - 1]
    bounds = bounds_of(cells) if kind == "pac" else None
    streams = Streams(cells.sizes, bounds, alarms, count)
    flat = (held + np.arange(count)[:, None]).ravel()

    def p_values() -> Iterator[np.ndarray]:
        for step in range(steps):
            u = rng.random(count)
            if share and step >= change and ood is not None:
                hit = rng.random(count) < share
                u[hit] = ood(rng, int(hit.sum()))
            if kind == "fixed":
                below = np.searchsorted(flat, u + np.arange(count)) - np.arange(count) * n
                yield (below + 1) / (n + 1)
            else:
                yield streams.p_values((cuts < u[:, None]).sum(1), rng.random(count))

    return run(streams, alarms, p_values(), until=not reset)


def shifted(auroc: float) -> Draw:
    """Places of scores N(d, 1) on the scale of N(0, 1), for an AUROC."""
    low, high = 0.0, 10.0
    for _ in range(60):
        middle = (low + high) / 2
        small = 0.5 * (1 + math.erf(middle / 2)) < auroc
        low, high = (middle, high) if small else (low, middle)
    grid = np.linspace(-9, 9, 20_001)
    table = np.array([0.5 * math.erfc(x / math.sqrt(2)) for x in grid])
    return lambda rng, size: np.interp(rng.standard_normal(size) + high, grid, table)


def continuous(rng: np.random.Generator, size: Any) -> Any:
    """Scores without ties."""
    return rng.standard_normal(size)


def tied(rng: np.random.Generator, size: Any) -> Any:
    """Scores of which 30 % are one value, in the tail."""
    return np.where(rng.random(size) < 0.3, 0.8, rng.standard_normal(size))


def two_values(rng: np.random.Generator, size: Any) -> Any:
    """Scores of two values, one of them in a tenth."""
    return (rng.random(size) < 0.1).astype(np.float64)


LAWS = {"continuous": continuous, "30 % ties": tied, "two values": two_values}


def percent(value: float, count: int) -> str:
    """A share with its standard error."""
    error = math.sqrt(max(value, 1 / count) * (1 - value) / count)
    return f"{100 * value:.1f} ± {100 * error:.1f} %"


def delay(first: np.ndarray, change: int = 0) -> tuple[float, float, float]:
    """Share found after the change, and median and 95 % of the items that took."""
    late = first[first > change] - change
    if not len(late):
        return 0.0, math.inf, math.inf
    return float((first > change).mean()), float(np.median(late)), float(np.quantile(late, 0.95))


def shown(found: tuple[float, float, float]) -> str:
    """The same in words."""
    share, half, most = found
    return f"{half:,.0f} / {most:,.0f}" + (f" ({share:.0%})" if share < 1 else "")


def watched(held: np.ndarray, new: np.ndarray, mode: Any, seed: int) -> gradood.Watch:
    """A watch of one stream of bare scores, in updates of random lengths."""
    watch = gradood.Watch(monitor_of(held), alpha=ALPHA, rate=RATE, mode=mode, seed=seed)
    for part in np.split(new, np.sort(np.random.default_rng(seed).integers(0, len(new), 9))):
        watch.update(part)
    return watch


def monitor_of(scores: np.ndarray, classes: np.ndarray | None = None) -> gradood.Monitor:
    """A monitor whose calibration scores are these."""
    from gradood.calibration._rule import DecisionRule

    made = gradood.Monitor(torch.nn.Linear(1, 2), "energy")
    part: Calibration = calibrated(torch.from_numpy(scores), Promise(0.05), None)
    made._session.state = type(made._session.state)(rule=DecisionRule({"energy": part}))
    return made


# -- lines of the specification -----------------------------------------------------------


def false_alarms(size: Size, rng: np.random.Generator) -> tuple[list[Line], list[str]]:
    """W1: streams like their calibration; also that `gradood.Watch` gives the same bits."""
    rows = ["| n | scores | fixed set | marginal | pac |", "|---|---|---|---|---|"]
    worst = {"marginal": 0.0, "pac": 0.0}
    fixed, same, compared = math.inf, 0, 0
    for n in (200, 500, 2000):
        for law, draw in LAWS.items():
            cells = []
            for kind in KINDS:
                shape = (size.streams, size.steps)
                first = size.streams * len(rows) * 2
                found, kept = scored(kind, draw, n, shape, rng, first)
                share = float((found.first > 0).mean())
                cells.append(percent(share, size.streams))
                if kind == "fixed":
                    fixed = min(fixed, share) if n == 500 and law == "continuous" else fixed
                    continue
                worst[kind] = max(worst[kind], share)
                for s, (held, new) in enumerate(kept):
                    with warnings.catch_warnings():
                        warnings.simplefilter("ignore", gradood.errors.GradoodWarning)
                        watch = watched(held, new, kind, first + s)
                    compared += 1
                    highest = watch.to_dict()["highest"]
                    same += highest == found.highest[s] and watch.alarm == (found.first[s] > 0)
            rows.append(f"| {n} | {law} | {' | '.join(cells)} |")
            print(rows[-1], flush=True)
    error = math.sqrt(ALPHA * (1 - ALPHA) / size.streams)
    text = f"{100 * worst['marginal']:.1f} % marginal, {100 * worst['pac']:.1f} % pac"
    lines = [
        Line(
            "W1",
            f"at most 1 % + 3 SE = {100 * (ALPHA + 3 * error):.1f} % (marginal), 1 % (pac)",
            f"at most {text}, over {size.streams:,} streams × {size.steps:,}",
            worst["marginal"] <= ALPHA + 3 * error and worst["pac"] <= ALPHA,
        ),
        Line(
            "W1",
            "the fixed set: at least 20 % at n = 500",
            percent(fixed, size.streams),
            fixed >= 0.2,
        ),
        Line(
            "W1",
            "`gradood.Watch`, in random updates: the same bits as the simulation",
            f"{same} of {compared} streams",
            same == compared,
        ),
    ]
    return lines, rows


def run_lengths(size: Size, rng: np.random.Generator) -> tuple[list[Line], list[str]]:
    """W2: items to a warning on streams like their calibration."""
    rows = ["| n | fixed set | marginal | pac |", "|---|---|---|---|"]
    least = math.inf
    shape = (size.long_streams, size.long_steps)
    for n in (500, 2000, 10_000):
        cells = []
        for kind in KINDS:
            found = placed(kind, n, shape, rng, reset=True)
            items = shape[0] * shape[1] / max(found.warnings, 1)
            sign = "" if found.warnings else "> "
            cells.append(f"{sign}{items:,.0f} ({found.warnings} warnings)")
            least = min(least, items) if kind != "fixed" else least
        rows.append(f"| {n} | {' | '.join(cells)} |")
        print(rows[-1], flush=True)
    text = f"at least {least:,.0f}, over {shape[0]:,} streams × {shape[1]:,}"
    return [Line("W2", f"at least {RATE:,} items to a false warning", text, least >= RATE)], rows


def delays(size: Size, rng: np.random.Generator) -> tuple[list[Line], list[str]]:
    """W4: simulated scores of AUROC 0.95, from the first item on and after 20,000 others."""
    ood, count = shifted(0.95), size.streams // 2
    rows = [
        "| n | share | from the first item: marginal | pac | after 20,000: marginal | pac |",
        "|---|---|---|---|---|---|",
    ]
    found: dict[tuple[int, float], tuple[float, float, float]] = {}
    for n in (500, 2000, 10_000):
        for share in (0.05, 0.2):
            cells = []
            for change in (0, size.steps):
                for kind in ("marginal", "pac"):
                    steps = change + (size.steps if share < 0.1 else min(size.steps, 5000))
                    out = placed(kind, n, (count, steps), rng, share=share, ood=ood, change=change)
                    reached = delay(out.first, change)
                    cells.append(shown(reached))
                    if change and kind == "marginal":
                        found[n, share] = reached
            rows.append(f"| {n} | {share:.0%} | {' | '.join(cells)} |")
            print(rows[-1], flush=True)
    lines = [
        Line("W4", f"n = 500, {share:.0%}: median at most {most}", shown(found[500, share]), ok)
        for share, most in ((0.2, 160), (0.05, 1300))
        for ok in [found[500, share][1] <= most and found[500, share][0] > 0.9]
    ]
    return lines, rows


def dependent(size: Size, rng: np.random.Generator) -> tuple[list[Line], list[str]]:
    """W7: requests of 16 items, copies or not, with and without groups."""
    group, count, n = 16, size.streams, 500
    steps = size.steps // 4
    rows = [f"| requests of {group} | what is bet on | false alarms |", "|---|---|---|"]
    shares = {}
    cells = cells_of(rng.random(n), 0)
    for what in ("copies", "independent items"):
        for way in ("each item", "mean of the bets, one item joins", "one item"):
            streams = Streams(cells.sizes, None, EXACT, count)
            held = np.sort(rng.random((count, n)), 1)[:, cells.ranks - 1]

            def p_values(what=what, way=way, streams=streams, held=held) -> Iterator[np.ndarray]:
                for _ in range(steps // group if way == "each item" else steps):
                    u = rng.random((group, count))
                    u = u[:1].repeat(group, 0) if what == "copies" else u
                    found = (held < u[..., None]).sum(2)
                    noise = rng.random((group, count))
                    if way == "each item":
                        yield from (
                            streams.p_values(*pair) for pair in zip(found, noise, strict=True)
                        )
                    elif way == "one item":
                        yield streams.p_values(found[0], noise[0])
                    else:
                        low, high = (
                            np.take_along_axis(streams._ends, found.T + more, 1).T
                            for more in (0, 1)
                        )
                        p = (low + noise * (high - low)) / streams._ends[:, -1]
                        streams.p_values(found[0], noise[0])
                        yield p

            out = run(streams, EXACT, p_values(), until=False)
            shares[what, way] = float((out.first > 0).mean())
            rows.append(f"| {what} | {way} | {percent(shares[what, way], count)} |")
            print(rows[-1], flush=True)
    warned = copies_warn()
    error = math.sqrt(ALPHA * (1 - ALPHA) / count)
    ours = max(shares[what, "one item"] for what in ("copies", "independent items"))
    lines = [
        Line(
            "W7",
            f"groups of {group} copies: at most 1 % + 3 SE",
            percent(ours, count),
            ours <= ALPHA + 3 * error,
        ),
        Line("W7", "without groups a warning", warned or "none", bool(warned)),
    ]
    return lines, rows


def copies_warn() -> str:
    """The warning that results of copied images give without groups."""
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, 3))
    generator = torch.Generator().manual_seed(0)
    monitor = gradood.Monitor(model, "energy").calibrate(
        torch.randn(200, 3, 2, 2, generator=generator)
    )
    watch = gradood.Watch(monitor)
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        for _ in range(20):
            image = torch.randn(1, 3, 2, 2, generator=generator)
            watch.update(monitor.predict(image.repeat(16, 1, 1, 1)))
    return next((type(w.message).__name__ for w in found), "")


def killed(size: Size, rng: np.random.Generator) -> tuple[list[Line], list[str]]:
    """W5: a process that watches and saves, killed again and again."""
    scores = rng.standard_normal(500)
    shards = [rng.standard_normal(200) + 0.3 for _ in range(200)]
    monitor = monitor_of(scores)

    def work(path: Path) -> None:
        watch = gradood.Watch.load(path, monitor) if path.exists() else gradood.Watch(monitor)
        for number, shard in enumerate(shards):
            watch.update(shard, source=f"shard-{number}").save(path)

    kills = 0
    with tempfile.TemporaryDirectory() as folder:
        whole, cut = Path(folder) / "whole.json", Path(folder) / "cut.json"
        work(whole)
        while kills < size.kills:
            child = os.fork()
            if child == 0:
                work(cut)
                os._exit(0)
            time.sleep(float(rng.uniform(0.002, 0.12)))
            os.kill(child, signal.SIGKILL)
            kills += os.WIFSIGNALED(os.waitpid(child, 0)[1])
            if cut.exists() and len(gradood.Watch.load(cut, monitor)._state.sources) == len(shards):
                if cut.read_bytes() != whole.read_bytes():
                    break
                cut.unlink()
        work(cut)
        same = cut.read_bytes() == whole.read_bytes()
    text = f"{kills} kills, the files are {'equal' if same else 'not equal'}"
    return [Line("W5", f"{size.kills} kills: evidence bit for bit", text, same)], []


def cost(size: Size, rng: np.random.Generator) -> tuple[list[Line], list[str]]:
    """W6: time per item, and the file after a million items of 489 shards."""
    times = {}
    for mode in ("marginal", "pac"):
        watch = gradood.Watch(monitor_of(rng.standard_normal(2000)), mode=mode)
        watch.update(rng.standard_normal(64))
        for length in (1, 16, 2048):
            parts = rng.standard_normal((max(1, min(300, 20_000 // length)), length))
            start = time.perf_counter()
            for part in parts:
                watch.update(part)
            times[mode, length] = 1e6 * (time.perf_counter() - start) / parts.size
    watch = gradood.Watch(monitor_of(rng.standard_normal(2000)))
    total = 1_000_000 if size.steps > 10_000 else 20_000
    for number, start in enumerate(range(0, total, 2048)):
        part = rng.standard_normal(min(2048, total - start))
        watch.update(part, source=f"{number:016x}")
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "watch.json"
        watch.save(file)
        bytes_ = file.stat().st_size
    each = ", ".join(f"{mode} {n}: {value:.0f} µs" for (mode, n), value in times.items())
    batched = max(value for (_, length), value in times.items() if length >= 16)
    single = max(value for (_, length), value in times.items() if length == 1)
    lines = [
        Line("W6", "at most 100 µs per item, in updates of 16 and more", each, batched <= 100),
        Line("W6", "the same in updates of one item", f"{single:.0f} µs", single <= 100),
        Line(
            "W6",
            "state of at most 16 KB after 10⁶ items",
            f"{bytes_:,} bytes after {watch.seen:,} items of {len(watch._state.sources)} shards",
            bytes_ <= 16_384,
        ),
    ]
    return lines, []


# -- real scores --------------------------------------------------------------------------

METHODS = ("actsub", "cadref", "energy", "gaia-z", "gradnorm", "knn", "mahalanobis++", "vim")
"""One of each kind; chosen by AUROC, SVHN included, before any delay of their own was seen."""
SETS = {
    "id": "cifar10_test.parquet[:10000]",
    "svhn": "svhn_test.parquet[:2000]",
    "cifar100": "cifar100_test.parquet[:2000]",
    "textures": "textures10_test.parquet",
}
Table = dict[str, torch.Tensor]


def real_scores(file: Path) -> dict[str, Table]:
    """Scores of every set by every detector on ResNet-20; kept in a file, and read if it exists."""
    if not file.exists():
        reference = REFERENCES["resnet20"]
        weights = SHARED / f"weights/{reference.weights}.safetensors"
        preprocess = Preprocess(**reference.preprocess)

        def images(source: str) -> Any:
            return loader(open_images(f"{SHARED}/data/{source}", preprocess), batch_size=64)

        monitor = gradood.Monitor(load_weights(build("resnet20"), weights), list(METHODS))
        monitor.fit(images("cifar10_train_a.parquet[:5000]"))
        scores = {name: monitor.score(images(source)) for name, source in SETS.items()}
        found = {f"{key}/{name}": x for key, each in scores.items() for name, x in each.items()}
        np.savez(file, **{name: tensor.numpy() for name, tensor in found.items()})
    stored = np.load(file)
    return {
        key: {name: torch.from_numpy(stored[f"{key}/{name}"]) for name in METHODS} for key in SETS
    }


def real(file: Path, size: Size, rng: np.random.Generator) -> tuple[list[Line], list[str]]:
    """W3: the scores of eight detectors on ResNet-20, combined by Fisher; and `energy` alone."""
    scores = real_scores(file)
    count, n = min(200, size.streams), 2000
    rows = ["| statistic | stream | share | marginal | pac |", "|---|---|---|---|---|"]
    found: dict[tuple[str, str, float], tuple[float, float, float]] = {}
    for statistic in ("fisher", "energy"):
        splits = [_split(scores, statistic, n, rng) for _ in range(count)]
        for name, share in [("id", 0.0), *((k, s) for k in SETS if k != "id" for s in (0.05, 0.2))]:
            cells = []
            for kind in ("marginal", "pac"):
                first = _real_alarms(kind, splits, name, share, rng)
                reached = delay(first)
                cells.append(percent(reached[0], count) if name == "id" else shown(reached))
                if kind == "marginal":
                    found[statistic, name, share] = reached
            rows.append(f"| {statistic} | {name} | {share:.0%} | {' | '.join(cells)} |")
            print(rows[-1], flush=True)
    asked = (("svhn", 0.2, 40, 0.99), ("svhn", 0.05, 350, 0.99), ("cifar100", 0.2, 180, 0.0))
    lines = [
        Line(
            "W3",
            f"{name} {share:.0%}: median ≤ {most}" + (f", found ≥ {least:.0%}" if least else ""),
            shown(found["fisher", name, share]),
            found["fisher", name, share][1] <= most and found["fisher", name, share][0] >= least,
        )
        for name, share, most, least in asked
    ]
    return lines, rows


Split = tuple[Calibration, dict[str, np.ndarray]]


def _split(scores: dict[str, Table], statistic: str, n: int, rng: np.random.Generator) -> Split:
    """A calibration on n known images dealt at random, and the statistic of all others."""
    order = torch.from_numpy(rng.permutation(len(scores["id"]["energy"])))
    used = n + 1000 if statistic == "fisher" else n
    held = {name: x[order[:used]] for name, x in scores["id"].items()}
    rest = {name: x[order[n + 1000 :]] for name, x in scores["id"].items()}
    if statistic == "fisher":
        fusion, made = fuse(held, torch.arange(used), "fisher", Promise())
        return made, {
            k: fusion.statistic(rest if k == "id" else s).numpy() for k, s in scores.items()
        }
    made = calibrated(held["energy"], Promise(), None)
    return made, {k: (rest if k == "id" else s)["energy"].numpy() for k, s in scores.items()}


def _real_alarms(
    kind: str, splits: list[Split], name: str, share: float, rng: np.random.Generator
) -> np.ndarray:
    """First alarm of each split's stream, a share of which is of another set."""
    steps = len(splits[0][1]["id"])
    found, noise = np.empty((steps, len(splits)), np.int16), np.empty((steps, len(splits)))
    numbers = np.arange(1, steps + 1)
    for s, (made, values) in enumerate(splits):
        flow = values["id"].copy()
        hit = rng.random(steps) < share
        flow[hit] = rng.choice(values[name], int(hit.sum()))
        held = made.scores.numpy()
        cells = Cells.of(held, uniforms(s, CALIBRATION_TIES, np.arange(len(held))))
        noise[:, s] = uniforms(s, NOISE, numbers)
        ties = uniforms(s, TIES, numbers)
        found[:, s] = cells.find_conservative(flow) if kind == "pac" else cells.find(flow, ties)
    alarms, bounds = (BOUNDED, bounds_of(cells)) if kind == "pac" else (EXACT, None)
    streams = Streams(cells.sizes, bounds, alarms, len(splits))
    p_values = (streams.p_values(a, b) for a, b in zip(found, noise, strict=True))
    return run(streams, alarms, p_values, until=False).first


# -- page ---------------------------------------------------------------------------------

PARTS = {
    "W1": ("False alarms", false_alarms),
    "W2": ("Items to a false warning", run_lengths),
    "W4": ("Items until the alarm, simulated scores", delays),
    "W5": ("Killed", killed),
    "W6": ("Cost", cost),
    "W7": ("Requests of dependent items", dependent),
}
NOTES = {
    "W1": "Share of streams like their calibration with an alarm; promised at most 1 %, however "
    "long. *fixed set*: the same bets on `Calibration.p_values`, as tools of the literature do.",
    "W2": "Promised: at least 10,000 on average. After each warning its evidence begins anew.",
    "W3": "Median / 95 % of the items until the alarm, and the share found within the stream where "
    "that is not all; of *known* streams the share with an alarm.",
    "W4": "AUROC 0.95. Median / 95 % of the items until the alarm (1 % ever), and the share found "
    "within 20,000 items (5,000 for 20 %) where that is not all.",
    "W7": "Share of streams of 5,000 requests (312 where each item is bet on) with an alarm, n = "
    "500. *mean of the bets, one item joins* is the rule that deploy.md proposed: it is right for "
    "copies and wrong for anything else, as items that were bet on and did not join say more of "
    "the calibration set than the bag knows. *one item* is what `Watch` does.",
}


def page(command: str, size: Size, done: list[tuple[str, str, list[Line], list[str]]]) -> str:
    """Everything in Markdown."""
    lines = [
        "# Watching a stream",
        "",
        f"`{command}`, {datetime.now(UTC):%Y-%m-%d}, commit {commit() or 'unknown'}, torch "
        f"{torch.__version__}, NumPy {np.__version__}. The proofs are in "
        "[ADR 0046](../adr/0046-watching-a-stream.md); W1 to W8 are the lines of the specification "
        "(W8: the proofs and rules of composition are that page).",
        "",
        "| line | asked | found | |",
        "|---|---|---|---|",
    ]
    for _, _, checks, _ in done:
        for line in checks:
            mark = "holds" if line.holds else "**does not hold**"
            lines.append(f"| {line.name} | {line.asked} | {line.found} | {mark} |")
    for name, title, _, rows in done:
        if rows:
            lines += ["", f"## {title} ({name})", "", NOTES.get(name, ""), "", *rows]
    return "\n".join(lines) + "\n"


def main() -> int:
    """Exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--only", default="")
    parser.add_argument("--scores", type=Path, help="of W3; made if absent")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    size = QUICK if given.quick else Size()
    parts: dict[str, tuple[str, Any]] = dict(PARTS)
    if given.scores is not None:
        title = "Items until the alarm, scores of ResNet-20 on CIFAR-10"
        parts["W3"] = title, partial(real, given.scores)
    wanted = [name for name in given.only.split(",") if name]
    done = []
    for name, (title, part) in sorted(parts.items()):
        if not wanted or name in wanted:
            start = time.perf_counter()
            checks, rows = part(size, np.random.default_rng([given.seed, int(name[1:])]))
            done.append((name, title, checks, rows))
            print(f"{name}: {time.perf_counter() - start:.0f} s", *checks, sep="\n  ", flush=True)
    text = page("python benchmarks/watch.py " + " ".join(sys.argv[1:]), size, done)
    if given.out is not None:
        given.out.write_text(text, encoding="utf-8")
    else:
        print(text)
    return int(not all(line.holds for _, _, checks, _ in done for line in checks))


if __name__ == "__main__":
    sys.exit(main())
