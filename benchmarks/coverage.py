"""Whether 95 % intervals hold the truth 95 % of the time: many simulated benchmarks.

    python benchmarks/coverage.py [--quick] [--out docs/results/coverage.md]

Every simulation draws an ID and an OOD sample from distributions whose true figures are known by
integration, and asks whether the interval holds them. Single figures: `gradood.metrics.intervals`,
without the average precisions, whose bootstrap takes too long. Means over sets and differences
between methods: `gradood.metrics`. Ends with 1 if a coverage of single figures is below
93 % by more than two standard errors: then an interval promises what it does not keep.
"""

import argparse
import json
import math
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from gradood.bench.provenance import commit
from gradood.metrics import Analysis, differences
from gradood.metrics.confidence import area_interval, rate_intervals, reach_of
from gradood.metrics.counts import Counts

REACH = reach_of(0.95)
LOW, HIGH = 0.93, 0.97
METRICS = ("auroc", "fpr_ood_at_tpr_id95", "fpr_id_at_tpr_ood95")
RATES = METRICS[1:]
NOISES = {"a": 0.5, "b": 1.0}
"""What two methods add to the signal that they share."""
NAMES = {
    "auroc": "AUROC",
    "fpr_ood_at_tpr_id95": "FPR95, OOD kept",
    "fpr_id_at_tpr_ood95": "FPR95, ID flagged",
}


@dataclass(frozen=True)
class Plan:
    """How much to simulate.

    Attributes:
        sizes: images of each set.
        repeats: simulations of single figures, by size.
        joint_sizes: images of each set, for means and differences.
        joint_repeats: simulations of these, by size.
        draws: of the bootstrap in these.
        seed: of everything.
    """

    sizes: tuple[int, ...] = (200, 2_000, 10_000)
    repeats: tuple[int, ...] = (4_000, 3_000, 1_500)
    joint_sizes: tuple[int, ...] = (200, 2_000)
    joint_repeats: tuple[int, ...] = (1_500, 600)
    draws: int = 400
    seed: int = 0


QUICK = Plan(sizes=(200,), repeats=(300,), joint_sizes=(200,), joint_repeats=(40,), draws=60)


class Rounded:
    """A distribution rounded to multiples of a step: most scores tie."""

    def __init__(self, smooth: Any, step: float) -> None:
        self.smooth, self.step = smooth, step

    def rvs(self, size: int, random_state: np.random.Generator) -> np.ndarray:
        """Samples."""
        drawn = self.smooth.rvs(size, random_state=random_state)
        return np.round(drawn / self.step) * self.step

    def atoms(self) -> np.ndarray:
        """All values that occur at all."""
        low, high = self.smooth.ppf(1e-13), self.smooth.ppf(1 - 1e-13)
        return np.arange(math.floor(low / self.step), math.ceil(high / self.step) + 1) * self.step

    def cdf(self, x: np.ndarray) -> np.ndarray:
        """P(score ≤ x), of multiples of the step."""
        return self.smooth.cdf(x + self.step / 2)


@dataclass(frozen=True)
class Case:
    """Two distributions of scores."""

    name: str
    known: Any
    unknown: Any

    def truth(self) -> dict[str, float]:
        """AUROC and both false positive rates, of the distributions themselves."""
        if isinstance(self.known, Rounded):
            return _truth_of_atoms(self.known, self.unknown)
        # The mean over quantiles of one of the other's distribution function.
        at = (np.arange(400_000) + 0.5) / 400_000
        return {
            "auroc": float(self.known.cdf(self.unknown.ppf(at)).mean()),
            "fpr_ood_at_tpr_id95": float(self.unknown.cdf(self.known.ppf(0.95))),
            "fpr_id_at_tpr_ood95": float(self.known.sf(self.unknown.ppf(0.05))),
        }


def _truth_of_atoms(known: Rounded, unknown: Rounded) -> dict[str, float]:
    atoms = np.union1d(known.atoms().round(9), unknown.atoms().round(9))
    f, g = known.cdf(atoms), unknown.cdf(atoms)
    p, q = np.diff(f, prepend=0), np.diff(g, prepend=0)
    keeps = int(np.argmax(f >= 0.95))
    detects = int(np.flatnonzero(1 - (g - q) >= 0.95)[-1])
    return {
        "auroc": float((q * (f - p / 2)).sum()),
        "fpr_ood_at_tpr_id95": float(g[keeps]),
        "fpr_id_at_tpr_ood95": float(1 - (f - p)[detects]),
    }


def cases() -> list[Case]:
    """Distributions like those of detectors: unequal spread, tails, skew, ties."""
    normal = stats.norm(0, 1)
    wide = stats.norm(1.5, 1.5)
    return [
        Case("normal, OOD wider", normal, wide),
        Case("normal, OOD narrower", normal, stats.norm(1.5, 0.5)),
        Case("normal, far apart", normal, stats.norm(2.8, 1)),
        Case("heavy tails (t₃)", stats.t(3), stats.t(3, 2, 1.5)),
        Case("skewed (exponential, gamma)", stats.expon(), stats.gamma(3)),
        Case("no better than chance", normal, normal),
        Case("ties: steps of 0.1", Rounded(normal, 0.1), Rounded(wide, 0.1)),
        Case("ties: steps of 0.5", Rounded(normal, 0.5), Rounded(wide, 0.5)),
    ]


@dataclass(frozen=True)
class Row:
    """One coverage.

    Attributes:
        what: single, mean or difference.
        scores: the case.
        metric: as in `gradood.metrics.Summary`.
        size: images of each set.
        truth: the true figure.
        repeats: simulations.
        coverage: share of them whose interval holds the truth.
        below: share whose interval lies below it.
        width: mean width of the intervals.
        bootstrap: coverage of plain bootstrap percentiles, of false positive rates.
    """

    what: str
    scores: str
    metric: str
    size: int
    truth: float
    repeats: int
    coverage: float
    below: float
    width: float
    bootstrap: float | None = None

    @property
    def error(self) -> float:
        """Standard error of the coverage."""
        return math.sqrt(self.coverage * (1 - self.coverage) / self.repeats)

    @property
    def holds(self) -> bool:
        """Whether it is what it should be."""
        return LOW <= self.coverage <= HIGH

    @property
    def broken(self) -> bool:
        """Whether the interval is surely too narrow."""
        return self.coverage + 2 * self.error < LOW


class Tally:
    """Intervals of one figure, counted."""

    def __init__(self, truth: float) -> None:
        self.truth, self.held, self.below, self.width, self.total = truth, 0, 0, 0.0, 0

    def add(self, low: float, high: float) -> None:
        """One interval."""
        # A truth at its end is held, whatever rounding says.
        self.held += low - 1e-9 <= self.truth <= high + 1e-9
        self.below += high + 1e-9 < self.truth
        self.width += high - low
        self.total += 1

    def row(self, what: str, scores: str, metric: str, size: int, **more: Any) -> Row:
        """What was found."""
        n = self.total
        shares = {"coverage": self.held / n, "below": self.below / n, "width": self.width / n}
        return Row(what, scores, metric, size, self.truth, n, **shares, **more)


def percentiles(
    positive: np.ndarray, negative: np.ndarray, rng: np.random.Generator
) -> tuple[float, float]:
    """The plain bootstrap of the share of negatives ≤ the level that 95 % of positives keep to.

    400 draws, without drawing samples: the rank of the drawn threshold is that of an order
    statistic, and the drawn share is binomial.
    """
    ordered, n = np.sort(positive), positive.size
    rank = -(-95 * n // 100)
    at = np.minimum((rng.beta(rank, n + 1 - rank, 400) * n).astype(int), n - 1)
    share = np.searchsorted(np.sort(negative), ordered, "right")[at] / negative.size
    low, high = np.percentile(rng.binomial(negative.size, share) / negative.size, [2.5, 97.5])
    return float(low), float(high)


def single(plan: Plan, say: Callable[[str], None]) -> Iterator[Row]:
    """Of figures of one method on one set."""
    for case in cases():
        truth = case.truth()
        for size, repeats in zip(plan.sizes, plan.repeats, strict=True):
            rng = np.random.default_rng([plan.seed, size])
            tallies = {metric: Tally(truth[metric]) for metric in METRICS}
            plain = {metric: Tally(truth[metric]) for metric in RATES}
            for _ in range(repeats):
                a = case.known.rvs(size, random_state=rng)
                b = case.unknown.rvs(size, random_state=rng)
                counts = Counts.of(a, b)
                area, variance = counts.auroc(), counts.auroc_variance()
                found = rate_intervals(counts, REACH)
                found["auroc"] = area_interval(area, variance, size, size, REACH)
                for metric, tally in tallies.items():
                    tally.add(*found[metric])
                plain[RATES[0]].add(*percentiles(a, b, rng))
                plain[RATES[1]].add(*percentiles(-b, -a, rng))
            for metric, tally in tallies.items():
                other = plain[metric].held / repeats if metric in plain else None
                yield tally.row("single", case.name, metric, size, bootstrap=other)
            say(f"single, {case.name}, {size}")


def joint(plan: Plan, say: Callable[[str], None]) -> Iterator[Row]:
    """Of means over three sets, and of differences between two methods on the same images.

    Each score is a signal that both methods share, and noise of its own; the second method has
    more of it.
    """
    shifts, spreads = (1.0, 2.0, 3.0), (1.0, 1.5, 1.0)
    for tied in (False, True):
        name = "ties: steps of 0.1" if tied else "normal"
        means = {}
        for method, noise in NOISES.items():
            own = [_noisy(*s, noise, tied).truth() for s in zip(shifts, spreads, strict=True)]
            means[method] = {k: float(np.mean([truth[k] for truth in own])) for k in METRICS}
        for size, repeats in zip(plan.joint_sizes, plan.joint_repeats, strict=True):
            rng = np.random.default_rng([plan.seed, size, tied])
            mean = {metric: Tally(means["a"][metric]) for metric in METRICS}
            gap = {metric: Tally(means["a"][metric] - means["b"][metric]) for metric in METRICS}

            def looked(shift: float, spread: float, n: int = size, r: Any = rng, t: bool = tied):
                signal = shift + spread * r.normal(size=n)
                scores = {m: signal + noise * r.normal(size=n) for m, noise in NOISES.items()}
                return {m: np.round(s, 1) if t else s for m, s in scores.items()}

            for repeat in range(repeats):
                known = looked(0.0, 1.0)
                sets = zip(shifts, spreads, strict=True)
                unknown = {f"s{i}": looked(*own) for i, own in enumerate(sets)}
                found = Analysis.of(
                    known, unknown, draws=plan.draws, precision_draws=2, seed=repeat
                )
                for metric in METRICS:
                    mean[metric].add(*found._interval(metric, tuple(unknown), 0))
                    row = differences(found, metric, tuple(unknown), [("a", "b")])[0]
                    gap[metric].add(*row["interval"])
            for metric in METRICS:
                yield mean[metric].row("mean", name, metric, size)
                yield gap[metric].row("difference", name, metric, size)
            say(f"joint, {name}, {size}")


def _noisy(shift: float, spread: float, noise: float, tied: bool) -> Case:
    known = stats.norm(0, math.hypot(1, noise))
    unknown = stats.norm(shift, math.hypot(spread, noise))
    if tied:
        return Case("", Rounded(known, 0.1), Rounded(unknown, 0.1))
    return Case("", known, unknown)


def simulate(plan: Plan, say: Callable[[str], None]) -> list[Row]:
    """All of it."""
    return [*single(plan, say), *joint(plan, say)]


def markdown(rows: list[Row], plan: Plan, command: str, seconds: float) -> str:
    """The page."""
    kept = sum(row.holds for row in rows)
    above, below = (row.coverage > HIGH for row in rows), (row.coverage < LOW for row in rows)
    lines = [
        "# Intervals hold the truth as often as they say",
        "",
        "Simulated benchmarks whose true figures are known: the share of them whose 95 % interval",
        "holds the truth. It should be 93 to 97 %. n images in each set; ± is the standard error",
        "of the simulation.",
        "",
        f"**{kept} of {len(rows)} coverages from 93 to 97 %; {sum(above)} above, wider than need "
        f"be; {sum(below)} below.**",
        "",
        f"{datetime.now(UTC):%Y-%m-%d}, commit {commit()}, {seconds / 60:.1f} minutes, seed "
        f"{plan.seed}. Made with",
        "",
        f"    {command}",
        "",
        "## One method on one set",
        "",
        "`gradood.metrics.intervals`. The last column is what the plain bootstrap's percentiles",
        "(400 draws, thresholds included) would hold in the same simulations, for which they were",
        "replaced. With coarse ties the threshold may be at either of two or three scores, and the",
        "interval allows for each: it must hold where 95 % falls between two of them, where the",
        "bootstrap fails, and is then too wide where it does not. So it is, by either way, for",
        "rates near 1 at n = 200, where a threshold and the share at it hang on ten images each.",
        "",
        "| scores | metric | n | truth | coverage | truth is above | width | bootstrap |",
        "|---|---|---:|---:|---:|---:|---:|---:|",
    ]
    for row in rows:
        if row.what == "single":
            plain = "" if row.bootstrap is None else f"{100 * row.bootstrap:.1f} %"
            lines.append(f"| {_cells(row)} | {plain} |")
    lines += [
        "",
        "## Means over three sets, and differences between two methods",
        "",
        "`gradood.metrics`: the sets share the ID images, the methods share all images.",
        f"{plan.draws} draws of the bootstrap for false positive rates, which does not allow for",
        "ties at the threshold as the intervals of single figures do.",
        "",
        "| figure | scores | metric | n | truth | coverage | truth is above | width |",
        "|---|---|---|---:|---:|---:|---:|---:|",
    ]
    lines += [f"| {row.what} | {_cells(row)} |" for row in rows if row.what != "single"]
    return "\n".join([*lines, ""])


def _cells(row: Row) -> str:
    mark = "" if row.holds else " **above**" if row.coverage > HIGH else " **below**"
    return " | ".join(
        [
            row.scores,
            NAMES[row.metric],
            f"{row.size:,}",
            f"{row.truth:.4f}",
            f"{100 * row.coverage:.1f} ± {100 * row.error:.1f} %{mark}",
            f"{100 * row.below:.1f} %",
            f"{row.width:.4f}",
        ]
    )


def main() -> int:
    """Simulate, and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a few hundred repeats")
    parser.add_argument("--out", type=Path, help="Markdown file to write, with JSON beside it")
    given = parser.parse_args()
    plan, start = QUICK if given.quick else Plan(), time.perf_counter()
    rows = simulate(plan, lambda text: print(text, file=sys.stderr, flush=True))
    command = " ".join(["python benchmarks/coverage.py", *sys.argv[1:]])
    page = markdown(rows, plan, command, time.perf_counter() - start)
    if given.out:
        given.out.write_text(page, encoding="utf-8")
        told = {"command": command, "commit": commit(), "plan": asdict(plan)}
        told["rows"] = [asdict(row) for row in rows]
        text = json.dumps(told, indent=1, ensure_ascii=False) + "\n"
        given.out.with_suffix(".json").write_text(text, encoding="utf-8")
    print(page)
    return int(any(row.broken for row in rows if row.what == "single"))


if __name__ == "__main__":
    sys.exit(main())
