"""A plan past one machine: images per second and cost by workers, and where the driver is full.

    python benchmarks/scale_plan.py [--images 1e9] [--rate 900] [--shard-rows 10000] …
    python benchmarks/scale_plan.py --measure FOLDER         # the rates of a driver on this machine
    python benchmarks/scale_plan.py --measure-dispatch       # the same of Ray itself
    python benchmarks/scale_plan.py --page docs/results/scale-plan.md

A discrete simulation of `gradood score --on ray`: workers score shards, one driver hands them out,
takes each shard's bytes, commits it and hands out the next. A shard whose worker ends is scored
again by another that starts. Every number below is an argument; `--help` says which were measured
and which are assumed. Nothing here starts Ray.
"""

import argparse
import json
import random
import tempfile
import time
from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from heapq import heappop, heappush
from pathlib import Path

MEASURED, ASSUMED = "measured", "assumed"
WORKERS = (1, 10, 30, 100, 300, 1000, 3000, 10_000)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Rates of a cluster; `FACTS` says what each is and where it is from."""

    images: float = 1e9
    shard_rows: int = 10_000
    rate: float = 1000.0
    spread: float = 0.1
    start: float = 60.0
    ahead: int = 1
    dispatch: float = 0.002
    commit: float = 0.005
    commit_row: float = 5e-7
    row_bytes: float = 60.0
    link: float = 1e9
    listing: float = 10_000_000.0
    mtbf: float = 24.0
    worker_price: float = 0.04
    driver_price: float = 0.2


FACTS = {
    "images": ("", "images"),
    "shard_rows": ("", "rows of a shard; `--shard-rows` of `gradood score`"),
    "rate": (
        MEASURED,
        "images/s of a worker: ResNet-20, 32 × 32, a core (docs/results/scoring.md)",
    ),
    "spread": (ASSUMED, "standard deviation of the logarithm of a shard's time"),
    "start": (MEASURED, "seconds until a worker scores: torch and the model (37 to 128 s here)"),
    "ahead": (ASSUMED, "shards that wait at each worker, so that it need not wait for the driver"),
    "dispatch": (
        MEASURED,
        "seconds of the driver's CPU to hand out a shard by Ray, and to take it back "
        "(`--measure-dispatch`: 2.0 ms)",
    ),
    "commit": (MEASURED, "seconds of the driver to commit a shard, whatever its rows"),
    "commit_row": (MEASURED, "and for each row"),
    "row_bytes": (ASSUMED, "bytes of a row in a shard: 15 of one detector here, more of several"),
    "link": (ASSUMED, "bytes/s of the driver's network"),
    "listing": (
        MEASURED,
        "rows/s that the driver lists before the first shard: footers of Parquet files, 200,000 "
        "rows in 1.1 ms on a local disk; a folder of files goes at some 100,000/s (assumed)",
    ),
    "mtbf": (ASSUMED, "hours after which a worker is lost, on average (spot machines: less)"),
    "worker_price": (ASSUMED, "price of a worker for an hour, in dollars: a core"),
    "driver_price": (ASSUMED, "price of the driver for an hour"),
}


@dataclass(frozen=True)
class Outcome:
    """What a run comes to.

    Attributes:
        seconds: from listing to the last commit.
        busy: share of the time that the driver works, once it has listed.
        idle: share of the workers' time, once they have started, in which they wait.
        repeated: shards that were scored again.
        dollars: of workers and driver.
    """

    seconds: float
    busy: float
    idle: float
    repeated: int
    dollars: float


def service(plan: Plan) -> float:
    """Seconds of the driver for one shard."""
    taken = plan.shard_rows * plan.row_bytes / plan.link
    return plan.dispatch + taken + plan.commit + plan.shard_rows * plan.commit_row


def saturation(plan: Plan) -> float:
    """Workers that keep the driver just busy; more add nothing."""
    return plan.shard_rows / plan.rate / service(plan)


def simulate(plan: Plan, workers: int, seed: int = 0) -> Outcome:
    """One run.

    Args:
        plan: the rates.
        workers: how many.
        seed: of durations and losses.

    Cost: a heap operation for each shard: some seconds for a million.
    """
    draw = random.Random(seed)
    shards = max(1, round(plan.images / plan.shard_rows))
    listed = plan.images / plan.listing
    free = [listed + plan.start] * workers
    worked, lost, clock, spent = 0.0, 0, listed, 0.0
    finished: list[tuple[float, int]] = []
    each = service(plan)
    mean = plan.shard_rows / plan.rate

    def assign(worker: int, at: float) -> None:
        nonlocal worked, lost
        begin = max(free[worker], at)
        duration = mean * draw.lognormvariate(-(plan.spread**2) / 2, plan.spread)
        worked += duration
        while draw.random() < duration / (3600 * plan.mtbf):
            begin += draw.random() * duration + plan.start
            lost += 1
        free[worker] = begin + duration
        heappush(finished, (free[worker], worker))

    open_shards = shards
    for turn in range(1 + plan.ahead):
        for worker in range(min(workers, open_shards)):
            clock += plan.dispatch
            spent += plan.dispatch
            assign(worker, clock)
        open_shards -= min(workers, open_shards)
        if not open_shards or turn == plan.ahead:
            break
    while finished:
        at, worker = heappop(finished)
        clock = max(clock, at) + each
        spent += each
        if open_shards:
            open_shards -= 1
            assign(worker, clock)
    hours = clock / 3600
    up = max(clock - listed - plan.start, 1e-9)
    dollars = hours * (workers * plan.worker_price + plan.driver_price)
    idle = max(0.0, 1 - worked / (workers * up))
    return Outcome(clock, spent / (clock - listed), idle, lost, dollars)


def measured(folder: Path) -> dict[str, float]:
    """What a commit costs a driver here: seconds of a shard and of a row, and bytes of a row."""
    import numpy as np
    import pyarrow as pa

    from gradood.batch._store import Store

    draw = np.random.default_rng(0)
    found: list[tuple[int, float, int]] = []
    with tempfile.TemporaryDirectory(dir=folder) as place:
        store = Store(Path(place))
        store.shards = 60
        for shard in range(60):
            rows = (100, 10_000, 50_000)[shard % 3]
            table = pa.table(
                {
                    "id": [f"photos/{shard:05d}/{i:08d}.jpg" for i in range(rows)],
                    "status": pa.array(["ok"] * rows).dictionary_encode(),
                    "label": draw.integers(0, 1000, rows),
                    "score": draw.standard_normal(rows),
                    "p_value": draw.integers(1, 5000, rows) / 5000,
                    "is_ood": draw.random(rows) < 0.05,
                }
            )
            start = time.perf_counter()
            store.commit(shard, table, {"rows": rows})
            found.append((rows, time.perf_counter() - start, store.file(shard).stat().st_size))
    times = {n: sorted(t for rows, t, _ in found if rows == n) for n in (100, 10_000, 50_000)}
    least = {n: t[0] for n, t in times.items()}  # Other processes only add to it.
    row = (least[50_000] - least[100]) / 49_900
    size = next(size for rows, _, size in found if rows == 50_000) / 50_000
    return {
        "commit": round(least[100] - 100 * row, 5),
        "commit_row": float(f"{row:.3g}"),
        "row_bytes": round(size, 1),
    }


@dataclass(frozen=True)
class Echo:
    """Work that is done at once; its answer is as large as a shard of 10,000 rows.

    Attributes:
        size: bytes of it.
        device: none that matters.
    """

    size: int = 600_000
    device: str = "cpu"

    def on(self, device: str) -> "Echo":
        """The same."""
        return self

    def opened(self) -> "Echo":
        """The same."""
        return self

    def run(self, task: object) -> bytes:
        """An answer."""
        return bytes(self.size)


def dispatched(count: int = 1000, warm: int = 50) -> dict[str, float]:
    """Seconds of the driver for a task on Ray that is done at once, by the CPU and by the clock."""
    from gradood.scale import Cluster
    from gradood.scale._ray_pool import ray_pool
    from gradood.scale._tasks import Task
    from gradood.scale._worker import answered

    tasks = [Task(n, range(n, n + 1)) for n in range(count + warm)]
    with ray_pool(Cluster(actors=2, threads=1), Echo()) as pool:
        for done, _ in enumerate(answered(pool, tasks), 1):
            if done == warm:
                start = time.process_time(), time.perf_counter()
        spent = time.process_time() - start[0], time.perf_counter() - start[1]
    return {"cpu": round(spent[0] / count, 5), "clock": round(spent[1] / count, 5)}


def table(plan: Plan, workers: Iterable[int] = WORKERS) -> list[str]:
    """Lines of Markdown: what each number of workers comes to."""
    lines = [
        "| workers | images/s | hours | of the best possible | driver busy | repeated | dollars |",
        "|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for count in workers:
        run = simulate(plan, count)
        speed = plan.images / run.seconds
        lines.append(
            f"| {count:,} | {speed:,.0f} | {run.seconds / 3600:,.1f} | "
            f"{100 * speed / (count * plan.rate):.0f} % | {100 * run.busy:.0f} % | "
            f"{run.repeated:,} | {run.dollars:,.0f} |"
        )
    return lines


def page(plan: Plan) -> str:
    """The page of the plan."""
    gpu = replace(plan, rate=2500.0, worker_price=1.0, start=90.0)
    wide = replace(plan, rate=7.0)
    cases = [
        ("Small network on cores", plan, "a ResNet-20 on images of 32 × 32"),
        (
            "ResNet-50 on cores",
            wide,
            "7 images/s of a core, as `benchmarks/banks.py forward` measures here",
        ),
        (
            "ResNet-50 on GPUs",
            gpu,
            "2,500 images/s of a GPU at 1 dollar an hour, both assumed; decoding needs some 15 "
            "cores beside each",
        ),
    ]
    lines = [
        "# A plan past one machine",
        "",
        "`python benchmarks/scale_plan.py --page docs/results/scale-plan.md`: a simulation of "
        "`gradood score --on ray`, not a run. Each assumption is an argument of the script, "
        "so that a reader can put in numbers of their own.",
        "",
        "| assumption | value | from | |",
        "|---|---:|---|---|",
    ]
    for field in fields(plan):
        kind, text = FACTS[field.name]
        option = field.name.replace("_", "-")
        lines.append(f"| `--{option}` | {getattr(plan, field.name):g} | {kind} | {text} |")
    for title, case, what in cases:
        full = saturation(case)
        lines += [
            "",
            f"## {title}",
            "",
            f"{case.images:g} images, {what}. The driver takes {1000 * service(case):.1f} ms for a "
            f"shard of {case.shard_rows:,} rows and is full at {full:,.0f} workers, "
            f"{full * case.rate:,.0f} images/s.",
            "",
            *table(case),
        ]
    lines += [
        "",
        "## Rows of a shard",
        "",
        *sizes(plan),
        "",
        "## What it says",
        "",
        *says(plan, wide),
    ]
    return "\n".join(lines) + "\n"


def says(plan: Plan, wide: Plan) -> list[str]:
    """What the tables come to, in words."""
    full, hours = saturation(plan), wide.images / wide.rate / 3600
    listed = plan.images / 100_000 / 3600
    return [
        f"- The work is the workers': {wide.images:g} images of a ResNet-50 take {hours:,.0f} "
        f"hours of a core, {hours * wide.worker_price:,.0f} dollars, however many share them. "
        "Workers that wait for the driver are what more of them cost.",
        f"- One driver suffices to some {full * plan.rate:,.0f} images/s with "
        f"{plan.shard_rows:,} rows a shard, and to nearly twice that with 50,000. A network as "
        "large as ResNet-50 on cores does not come near it.",
        "- Images come in Parquet, not as files in a folder: listing those alone would take "
        f"{listed:.1f} hours, and their names the driver's memory.",
        "- Not measured: the driver's network, losses of workers, prices. Object "
        "stores that limit reads, and the decoding of large photographs (5 to 20 ms of a core "
        "each), are in `--rate` alone. Several drivers, each with a part of the listing, are "
        "several jobs.",
    ]


def sizes(plan: Plan) -> list[str]:
    """What a shard's rows change: where the driver is full, and what a lost worker repeats."""
    lines = [
        "The first network again. Small shards fill the driver; large ones repeat more work after "
        "a loss and end with idle workers. With 1,000 workers:",
        "",
        "| rows of a shard | driver full at | images/s then | hours | workers wait | files |",
        "|---:|---:|---:|---:|---:|---:|",
    ]
    for rows in (500, 2000, 10_000, 50_000, 200_000):
        case = replace(plan, shard_rows=rows)
        full, run = saturation(case), simulate(case, 1000)
        lines.append(
            f"| {rows:,} | {full:,.0f} workers | {full * case.rate:,.0f} | "
            f"{run.seconds / 3600:.2f} | {100 * run.idle:.0f} % | {case.images / rows:,.0f} |"
        )
    return lines


def main() -> None:
    """What the command line asks for."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    for field in fields(Plan):
        kind, text = FACTS[field.name]
        option = "--" + field.name.replace("_", "-")
        about = f"{text}{f' ({kind})' if kind else ''}; default {field.default:g}"
        parser.add_argument(option, type=float, default=field.default, help=about)
    parser.add_argument("--workers", type=int, nargs="*", default=WORKERS)
    parser.add_argument("--measure", type=Path, help="time commits in this folder")
    parser.add_argument("--measure-dispatch", action="store_true", help="time Ray on this machine")
    parser.add_argument("--page", type=Path)
    given = parser.parse_args()
    if given.measure:
        print(json.dumps(measured(given.measure)))
        return
    if given.measure_dispatch:
        print(json.dumps(dispatched()))
        return
    whole = {"shard_rows", "ahead"}
    values = {f.name: getattr(given, f.name) for f in fields(Plan)}
    plan = Plan(**{name: int(v) if name in whole else v for name, v in values.items()})
    if given.page:
        given.page.write_text(page(plan))
        return
    print(f"driver full at {saturation(plan):,.0f} workers")
    print("\n".join(table(plan, given.workers)))


if __name__ == "__main__":
    main()
