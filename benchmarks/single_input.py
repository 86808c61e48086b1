"""Cost of `predict` on one input beside the plain forward pass, of two versions in turn.

    python benchmarks/single_input.py [--before OTHER_CHECKOUT/src] [--rounds 60] [--threads 1]
    python benchmarks/single_input.py --parts energy [--rounds 200]

Each version runs in a process of its own, which waits while the other one works. A round takes
every call once, in a shuffled order, after one warm call, between two plain forwards of the same
model and input (`inference_mode`). Printed are the median time of the forward, and for each call
its ratio to the forwards around it and what it takes beyond them. With one thread, time is that of
the processor, so that others may use the machine too; else that of the clock. ResNet-20, one
CIFAR-10 sized input, statistics of 300 inputs, calibrated at 5 %. ``--parts`` divides a call among
functions of the package: what each takes without those below it that are named too.
"""

import argparse
import functools
import importlib
import json
import os
import random
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path

FOUNDING = ["gradnorm", "gaia-z", "gaia-a", "line", "grood"]
CALLS = {
    "energy": ["energy"],
    "knn": ["knn"],
    "mahalanobis++": ["mahalanobis++"],
    "vim": ["vim"],
    "gradnorm": ["gradnorm"],
    "gaia-z": ["gaia-z"],
    "gaia-a": ["gaia-a"],
    "line": ["line"],
    "grood": ["grood"],
    "the five founding ones": FOUNDING,
}
FORWARD = "forward"
PARTS = {  # What a call consists of, from the outside in.
    "gradood.monitor.monitor:Monitor.predict": "checks of the call, and the result",
    "gradood.monitor._session:Session._compare": "whether the model changed",
    "gradood.calibration._rule:DecisionRule.results": "p-value and decision",
    "gradood._engine.scoring:score_batch": "scores from what was read",
    "gradood._engine.reader:Reader.read": "finite rows, requests",
    "gradood.evidence.gather:_gathered": "evidence from what was tapped",
    "gradood.evidence.gather:content_keys": "content keys, for ties",
    "gradood.taps.tap:Tap.__enter__": "random generators and modes, kept",
    "gradood.taps.tap:Tap.__exit__": "random generators and modes, set back",
    "gradood.taps.view:_Tree.follow": "the view made equal to the model",
    "gradood.taps.view:_Tree.restore": "the view set back",
    "gradood.taps.tap:Tap.run": "hooks attached",
    "gradood.taps.tap:Tap.backward": "truncated backward",
    "gradood.taps.tap:called": "the model's own forward, with hooks",
}


def calls() -> dict[str, Callable[[], object]]:
    """The plain forward, and `predict` by every monitor."""
    import torch

    import gradood
    from gradood import models

    warnings.simplefilter("ignore")
    torch.manual_seed(0)
    model = models.build("resnet20").eval()
    shared = Path(os.environ.get("GRADOOD_SHARED", Path(__file__).parents[2] / "shared"))
    weights = shared / "weights" / "resnet20_cifar10.safetensors"
    if weights.exists():
        models.load_weights(model, weights)
    x = torch.randn(400, 3, 32, 32)
    with torch.inference_mode():
        labels = torch.cat([model(part).argmax(1) for part in x.split(50)]).clone()

    def forward() -> object:
        with torch.inference_mode():
            return model(x[:1])

    found: dict[str, Callable[[], object]] = {FORWARD: forward}
    for name, detectors in CALLS.items():
        monitor = gradood.Monitor(model, detectors, progress=False)
        monitor.fit([(x[:300], labels[:300])]).calibrate(x[300:], fpr=0.05)
        found[name] = lambda monitor=monitor: monitor.predict(x[:1])
    for call in found.values():
        for _ in range(5):
            call()
    return found


def serve(threads: int) -> None:
    """Time the calls that are named on standard input, one a line; seconds on standard output."""
    import torch

    torch.set_num_threads(threads)
    clock = time.thread_time if threads == 1 else time.perf_counter
    found = calls()
    print("ready", flush=True)
    for line in sys.stdin:
        times: list[float] = []
        name = line.strip()
        for each in (name, FORWARD, name, FORWARD):  # The first call only warms the caches.
            start = clock()
            found[each]()
            times.append(clock() - start)
        print(json.dumps([times[2], (times[1] + times[3]) / 2]), flush=True)


def parts(name: str, rounds: int) -> None:
    """Print the median microseconds of each part of a call."""
    import torch

    torch.set_num_threads(1)
    spent: dict[str, float] = {}
    below = [0.0]

    def timed(function: Callable[..., object], label: str) -> Callable[..., object]:
        @functools.wraps(function)
        def timer(*given: object, **named: object) -> object:
            below.append(0.0)
            start = time.thread_time()
            try:
                return function(*given, **named)
            finally:
                whole = time.thread_time() - start
                spent[label] = spent.get(label, 0.0) + whole - below.pop()
                below[-1] += whole

        return timer

    for place, label in PARTS.items():
        module, _, path = place.partition(":")
        *owners, last = path.split(".")
        owner = functools.reduce(getattr, owners, importlib.import_module(module))
        setattr(owner, last, timed(getattr(owner, last), label))
    found = calls()
    seen: dict[str, list[float]] = {}
    forwards: list[float] = []
    for _ in range(rounds):
        start = time.thread_time()
        found[FORWARD]()
        forwards.append(time.thread_time() - start)
        spent.clear()
        found[name]()
        for label, seconds in spent.items():
            seen.setdefault(label, []).append(seconds)
    print(f"forward {1e6 * statistics.median(forwards):.0f}")
    for label in PARTS.values():
        if label in seen:
            print(f"{label:40}{1e6 * statistics.median(seen[label]):8.0f}")


class Version:
    """A process that runs one version."""

    def __init__(self, source: Path | None, threads: int) -> None:
        environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
        if source is not None:
            environment["PYTHONPATH"] = str(source.resolve())
        command = [sys.executable, __file__, "--serve", "--threads", str(threads)]
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment,
            text=True,
        )
        self._read()
        self.times: dict[str, list[list[float]]] = {name: [] for name in CALLS}

    def take(self, name: str) -> None:
        """Time one call."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{name}\n")
        self._process.stdin.flush()
        self.times[name].append(json.loads(self._read()))

    def close(self) -> None:
        """End the process."""
        self._process.communicate()

    def _read(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit("a process of the benchmark ended early; run it with --serve to see.")
        return line


def main() -> int:
    """Print a table for each version."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--before", type=Path, help="`src` of another checkout")
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--parts", choices=CALLS)
    options = parser.parse_args()
    if options.parts:
        parts(options.parts, options.rounds)
        return 0
    if options.serve:
        serve(options.threads)
        return 0
    versions = {"now": Version(None, options.threads)}
    if options.before is not None:
        versions = {"before": Version(options.before, options.threads), **versions}
    rng = random.Random(0)
    order = [(version, name) for version in versions for name in CALLS]
    for _ in range(options.rounds):
        rng.shuffle(order)
        for version, name in order:
            versions[version].take(name)
    for title, version in versions.items():
        version.close()
        forwards = [forward for pairs in version.times.values() for _, forward in pairs]
        print(f"\n{title}: forward {1e3 * statistics.median(forwards):.2f} ms")
        print(f"{'':24}{'ratio':>8}{'beyond, ms':>12}")
        for name, pairs in version.times.items():
            ratio = statistics.median(own / forward for own, forward in pairs)
            beyond = 1e3 * statistics.median(own - forward for own, forward in pairs)
            print(f"{name:24}{ratio:8.2f}{beyond:12.2f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
