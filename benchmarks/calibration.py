"""Whether calibrated thresholds keep their promise: many simulated calibrations of each kind.

    python benchmarks/calibration.py [--quick] [--jobs 2] [--out docs/results/calibration.md]

Every simulated calibration goes through `gradood.calibration`. What its threshold lets through is
known exactly for one detector, since the distribution of the scores is; for a combination of three
it is the share of fresh inputs above. Ends with 1 if a promise is broken by more than three
standard errors.
"""

import argparse
import math
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import product
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from gradood.bench.folder import commit
from gradood.calibration import Fusion, Promise, calibrate, fuse, required, required_fused
from gradood.calibration.fusion import _split
from gradood.errors import CalibrationError, UninformativeScoreWarning

RATES = (0.05, 0.01)
MODES = ("marginal", "pac")
HOWS = ("fisher", "stouffer", "cauchy", "min")
ATOM = 1.5
CORRELATION = 0.7
Draw = Callable[[np.random.Generator, int], Tensor]


@dataclass(frozen=True)
class Plan:
    """How much to simulate.

    Attributes:
        sizes: calibration samples.
        repeats: calibrations of each kind.
        rank_parts: for combinations, distinct rank parts among the repeats.
        pool: for combinations, fresh inputs per rank part and calibration sample.
        least_pool: and at least so many per rank part.
        seed: of everything.
    """

    sizes: tuple[int, ...] = (100, 1_000, 10_000)
    repeats: int = 10_000
    rank_parts: int = 100
    pool: int = 40
    least_pool: int = 50_000
    seed: int = 0

    def promises(self) -> list[Promise]:
        """All that is tried."""
        return [Promise(rate, mode) for rate, mode in product(RATES, MODES)]


QUICK = Plan(sizes=(100, 1_000), repeats=400, rank_parts=10, least_pool=20_000)


@dataclass(frozen=True)
class Row:
    """One line of the table; shares, and their standard errors.

    Attributes:
        scores: what was calibrated.
        size: calibration samples.
        rate: α.
        mode: of the promise.
        share: marginal: mean false-alarm rate. PAC: share of calibrations whose rate is above α.
        error: its standard error.
        fresh: marginal: share of fresh inputs that were flagged, one per calibration.
        refused: the typed error, if that is what came.
        holds: whether the promise is kept, or rightly refused.
    """

    scores: str
    size: int
    rate: float
    mode: str
    share: float = math.nan
    error: float = math.nan
    fresh: float = math.nan
    refused: str = ""
    holds: bool = True


# ---------------------------------------------------------------- distributions


def normal(rng: np.random.Generator, size: int) -> Tensor:
    """Standard normal."""
    return torch.from_numpy(rng.standard_normal(size))


def heavy(rng: np.random.Generator, size: int) -> Tensor:
    """Student's t with two degrees of freedom: infinite variance."""
    return student(torch.from_numpy(rng.random(size)))


def tied(rng: np.random.Generator, size: int) -> Tensor:
    """One in five scores is the same, just below the largest."""
    return torch.where(torch.from_numpy(rng.random(size)) < 0.2, ATOM, normal(rng, size))


def constant(rng: np.random.Generator, size: int) -> Tensor:
    """All the same."""
    return torch.ones(size, dtype=torch.float64)


def rounded(rng: np.random.Generator, size: int) -> Tensor:
    """Standard normal, rounded to bfloat16."""
    return normal(rng, size).bfloat16()


def student(u: Tensor) -> Tensor:
    """Quantiles of Student's t with two degrees of freedom."""
    return (2 * u - 1) / (2 * u * (1 - u)).clamp(min=1e-300).sqrt()


def tail(threshold: float) -> float:
    """P(Z > threshold) of a standard normal."""
    return 0.5 * math.erfc(threshold / math.sqrt(2))


def rounded_tail(threshold: float) -> float:
    """P(bfloat16(Z) > threshold): Z is beyond the middle between it and the next bfloat16."""
    at = torch.tensor(threshold, dtype=torch.bfloat16)
    following = torch.nextafter(at, torch.tensor(torch.inf, dtype=torch.bfloat16))
    return tail((float(at) + float(following)) / 2)


SINGLE: dict[str, tuple[Draw, Callable[[float], float]]] = {
    "normal": (normal, tail),
    "heavy tail (t₂)": (heavy, lambda t: 0.5 * (1 - t / math.sqrt(2 + t * t))),
    "20 % ties": (tied, lambda t: 0.8 * tail(t) + 0.2 * (t < ATOM)),
    "constant": (constant, lambda t: float(t < 1)),
    "bf16-rounded": (rounded, rounded_tail),
}


def three(rng: np.random.Generator, size: int) -> dict[str, Tensor]:
    """Three detectors, correlated: a normal, a heavy tail, one in bfloat16 with 20 % ties."""
    shared = math.sqrt(CORRELATION) * normal(rng, size)
    a, b, c = (shared + math.sqrt(1 - CORRELATION) * normal(rng, size) for _ in range(3))
    c = torch.where((c > 0.5244) & (c < 1.2816), 1.0, c).bfloat16()
    return {"a": a, "b": student(torch.special.ndtr(b)), "c": c}


# ---------------------------------------------------------------- simulation


def one_detector(name: str, size: int, plan: Plan, seed: int) -> Iterator[Row]:
    """Calibrations of one detector's scores."""
    draw, above = SINGLE[name]
    rng = np.random.default_rng(seed)
    possible = [promise for promise in plan.promises() if size >= required(promise)]
    for promise in plan.promises():
        if promise not in possible:
            yield refusal(name, promise, size, lambda p: calibrate(draw(rng, size), p))
    rates = torch.empty(len(possible), plan.repeats, dtype=torch.float64)
    fresh = torch.zeros(len(possible), dtype=torch.float64)
    for repeat in range(plan.repeats):
        scores, new = draw(rng, size), draw(rng, 1)
        for i, promise in enumerate(possible):
            made = calibrate(scores, promise)
            rates[i, repeat] = above(made.threshold)
            if promise.mode == "marginal":
                fresh[i] += int(made.is_ood(new))
    for i, promise in enumerate(possible):
        yield verdict(name, promise, size, rates[i][:, None], float(fresh[i]) / plan.repeats)


def combination(how: str, size: int, plan: Plan, seed: int) -> Iterator[Row]:
    """Calibrations of a combination: rank parts, and for each many decision parts."""
    rng = np.random.default_rng(seed)
    name, keys = f"`{how}` of three", torch.arange(size)
    possible = [promise for promise in plan.promises() if size >= required_fused(promise)]
    for promise in plan.promises():
        if promise not in possible:
            yield refusal(name, promise, size, lambda p: fuse(three(rng, size), keys, how, p))
    each = plan.repeats // plan.rank_parts
    rates = torch.empty(len(possible), plan.rank_parts, each, dtype=torch.float64)
    fresh = torch.zeros(len(possible), dtype=torch.float64)
    for part in range(plan.rank_parts):
        scores = three(rng, size)
        _, ranked, rows = _split(scores, keys, possible[-1], 0)
        # One split serves all, unless the promises leave different numbers of rows to rank by.
        assert all(len(_split(scores, keys, p, 0)[1]) == len(ranked) for p in possible)
        fusion = Fusion.fit(scores, keys, how, promise=possible[-1])
        inputs = three(rng, max(plan.least_pool, plan.pool * size))
        pool = fusion.statistic(inputs).sort().values
        for promise in possible:
            same_as_fused(fusion, promise, scores, three(rng, size), rows, how)
        for repeat in range(each):
            values = fusion.statistic(three(rng, len(rows)))
            new = fusion.statistic(three(rng, 1))
            for i, promise in enumerate(possible):
                made = calibrate(values, promise)
                at = torch.searchsorted(pool, made.threshold, right=True)
                rates[i, part, repeat] = 1 - int(at) / len(pool)
                fresh[i] += int(made.is_ood(new))
    for i, promise in enumerate(possible):
        yield verdict(name, promise, size, rates[i], float(fresh[i]) / rates[i].numel())


def same_as_fused(
    fusion: Fusion,
    promise: Promise,
    ranked: dict[str, Tensor],
    drawn: dict[str, Tensor],
    rows: Tensor,
    how: str,
) -> None:
    """Check that `fuse`, which a user calls, does what is simulated here in parts."""
    mixed = {name: column.clone() for name, column in ranked.items()}
    for name, column in mixed.items():
        column[rows] = drawn[name][rows]
    whole, made = fuse(mixed, torch.arange(len(mixed["a"])), how, promise)
    values = fusion.statistic(drawn)[rows].sort().values
    if not (torch.equal(made.scores, values) and whole.to_plain() == fusion.to_plain()):
        raise AssertionError(f"fuse differs from its parts: {how}, {promise}.")


def refusal(name: str, promise: Promise, size: int, attempt: Callable[[Promise], object]) -> Row:
    """The line of a promise that cannot be kept."""
    try:
        attempt(promise)
    except CalibrationError as error:
        needed = str(error).split("needs at least ")[1].split(":")[0].split(".")[0]
        return Row(name, size, promise.fpr, promise.mode, refused=f"needs {int(needed):,}")
    return Row(name, size, promise.fpr, promise.mode, holds=False)


def verdict(name: str, promise: Promise, size: int, rates: Tensor, fresh: float) -> Row:
    """The line of a promise kept or broken.

    Args:
        name: what was calibrated.
        promise: what was to hold.
        size: calibration samples.
        rates: (clusters, calibrations in each) true false-alarm rates.
        fresh: share of fresh inputs flagged.
    """
    pac = promise.mode == "pac"
    limit = 1 - promise.confidence if pac else promise.fpr
    values = (rates > promise.fpr * (1 + 1e-12)).double() if pac else rates
    share, count = float(values.mean()), values.numel()
    # Within a cluster the rank part and the pool are shared; between clusters nothing is.
    error = float(values.mean(1).std()) / math.sqrt(len(values))
    if pac:
        error = max(error, math.sqrt(limit * (1 - limit) / count))
    holds = share <= limit + 3 * error
    if not pac:
        holds &= fresh <= limit + 3 * math.sqrt(limit * (1 - limit) / count)
    return Row(name, size, promise.fpr, promise.mode, share, error, fresh, holds=holds)


def task(given: tuple[str, str, int, Plan, int]) -> list[Row]:
    """One cell, in a process of its own."""
    kind, name, size, plan, seed = given
    torch.set_num_threads(1)
    make = one_detector if kind == "one" else combination
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UninformativeScoreWarning)
        return list(make(name, size, plan, seed))


def simulate(plan: Plan, jobs: int = 1, say: Callable[[str], None] | None = None) -> list[Row]:
    """All lines of the table."""
    cells = [("one", name, size) for name, size in product(SINGLE, plan.sizes)]
    cells += [("all", how, size) for how, size in product(HOWS, plan.sizes)]
    tasks = [(*cell, plan, plan.seed + number) for number, cell in enumerate(cells)]
    rows: list[Row] = []
    if jobs == 1:
        done = map(task, tasks)
    else:
        done = ProcessPoolExecutor(jobs, mp_context=get_context("spawn")).map(task, tasks)
    for (_, name, size, *_), found in zip(tasks, done, strict=True):
        rows += found
        if say:
            say(f"{name}, n = {size:,}")
    return rows


# ---------------------------------------------------------------- table


def markdown(rows: list[Row], plan: Plan, command: str, seconds: float) -> str:
    """The page."""
    broken = [row for row in rows if not row.holds]
    measured = [row for row in rows if not row.refused]
    lines = [
        "# Calibration keeps its promise",
        "",
        f"{plan.repeats:,} simulated calibrations for each line. Marginal: the mean of the true",
        "false-alarm rate is at most α. PAC: at most 5 % of the calibrations have a true rate",
        "above α. Each within three standard errors (SE); where the promise cannot be kept, the",
        "typed error, with the number of samples needed. *Fresh*: one new input per calibration,",
        "the share of them that `is_ood` flags in marginal mode.",
        "",
        f"**{len(measured) - len(broken)} of {len(measured)} promises kept, "
        f"{len(rows) - len(measured)} rightly refused.**",
        "",
        f"{datetime.now(UTC).date()}, commit {commit() or 'unknown'}, torch {torch.__version__}, "
        f"{seconds / 60:.1f} minutes. Made with",
        "",
        f"    {command}",
        "",
        "The rate of a threshold is exact for one detector, from the distribution of its scores.",
        "20 % ties: one in five scores is the same, inside the upper tail. Combinations are of",
        f"three detectors with correlation {CORRELATION:g}: a normal, a heavy tail (t₂), and one",
        f"in bfloat16 with 20 % ties; {plan.rank_parts} rank parts with "
        f"{plan.repeats // plan.rank_parts} decision parts each.",
        f"Their rates are counted on {plan.pool} n, at least {plan.least_pool:,}, fresh inputs per "
        "rank part, whose",
        "error is in the SE.",
        "",
        "| scores | n | α | mean rate ± SE | fresh | PAC violations ± SE | |",
        "|---|---:|---:|---:|---:|---:|---|",
    ]
    found = {(row.scores, row.size, row.rate, row.mode): row for row in rows}
    kinds = dict.fromkeys((row.scores, row.size) for row in rows)
    for (scores, size), rate in product(kinds, RATES):
        marginal, pac = (found[scores, size, rate, mode] for mode in MODES)
        ok = "kept" if marginal.holds and pac.holds else "**broken**"
        lines.append(
            f"| {scores} | {size:,} | {100 * rate:g} % | {cell(marginal)} | "
            f"{'' if marginal.refused else f'{100 * marginal.fresh:.2f} %'} | {cell(pac)} | "
            f"{'refused' if marginal.refused and pac.refused else ok} |"
        )
    return "\n".join(lines) + "\n"


def cell(row: Row) -> str:
    """A share with its error, or why there is none."""
    if row.refused:
        return f"error: {row.refused}"
    digits = 3 if row.mode == "marginal" else 2
    return f"{100 * row.share:.{digits}f} ± {100 * row.error:.{digits}f} %"


def main() -> int:
    """Simulate, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a few hundred repeats, as CI does")
    parser.add_argument("--jobs", type=int, default=2, help="processes")
    parser.add_argument("--out", type=Path, help="Markdown file to write")
    given = parser.parse_args()
    plan, start = QUICK if given.quick else Plan(), time.perf_counter()
    rows = simulate(plan, given.jobs, lambda text: print(text, file=sys.stderr, flush=True))
    command = " ".join(["python benchmarks/calibration.py", *sys.argv[1:]])
    page = markdown(rows, plan, command, time.perf_counter() - start)
    if given.out:
        given.out.write_text(page, encoding="utf-8")
    print(page)
    return 0 if all(row.holds for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
