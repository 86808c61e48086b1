"""Scores and refusals when several threads use one model, detector by detector.

    python benchmarks/threads.py [--rounds 200] [--networks mlp,plain-cnn,resnet] [--detectors …]
                                 [--json F]

Each round starts two threads at once, which take turns every 10 microseconds: on one new monitor,
on two new monitors of one model, and one that loads a saved monitor beside one that scores. A score
that differs in a bit from the one got alone counts as wrong, now or when it is taken again; any
error counts as a refusal. Then draws of the global generator are counted that repeat beside scores.
"""

import argparse
import json
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import gradood
from gradood.testing import Subject, networks

SITUATIONS = ("one new monitor", "two monitors", "load and score")


def at_once(calls: list[Callable[[], Tensor]]) -> list[Any]:
    """What each call gives, or the error it raises, in threads that start together."""
    results: list[Any] = [None] * len(calls)
    start = threading.Barrier(len(calls))

    def run(place: int, call: Callable[[], Tensor]) -> None:
        start.wait()
        try:
            results[place] = call()
        except Exception as error:
            results[place] = error

    threads = [threading.Thread(target=run, args=entry) for entry in enumerate(calls)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


def used(subject: Subject, monitor: gradood.Monitor) -> Tensor:
    """Scores of a monitor that has not seen the model yet."""
    if subject.learns:
        monitor.fit(subject.data(batch=64))
    return monitor.score(subject.x)


def situations(subject: Subject, folder: str) -> dict[str, Callable[[], list[Any]]]:
    """Name → one round of it, which gives all scores and errors."""
    model, saved = subject.network.model(), Path(folder) / "saved.safetensors"
    scoring = subject.unfitted(model)
    used(subject, scoring)
    scoring.save(saved)

    def both(monitors: list[gradood.Monitor]) -> list[Any]:
        calls = [lambda monitor=monitor: used(subject, monitor) for monitor in monitors]
        got = at_once(calls)
        return (
            got
            if any(isinstance(g, Exception) for g in got)
            else [
                *got,
                *(monitor.score(subject.x) for monitor in monitors),
            ]
        )

    return {
        SITUATIONS[0]: lambda: both([subject.unfitted(model)] * 2),
        SITUATIONS[1]: lambda: both([subject.unfitted(model) for _ in range(2)]),
        SITUATIONS[2]: lambda: at_once(
            [
                lambda: gradood.load(saved, model, progress=False).score(subject.x),
                lambda: scoring.score(subject.x),
            ]
        ),
    }


def count(subject: Subject, rounds: int) -> dict[str, dict[str, int]]:
    """Situation → wrong scores and refusals among so many rounds."""
    found: dict[str, dict[str, int]] = {}
    expected = used(subject, subject.unfitted(subject.network.model()))
    with tempfile.TemporaryDirectory() as folder:
        for name, run in situations(subject, folder).items():
            outcomes = [outcome for _ in range(rounds) for outcome in run()]
            errors = [o for o in outcomes if isinstance(o, Exception)]
            wrong = [o for o in outcomes if isinstance(o, Tensor) and not torch.equal(o, expected)]
            found[name] = {"rounds": rounds, "wrong": len(wrong), "refused": len(errors)}
            for text in sorted({f"{type(error).__name__}: {error}" for error in errors})[:2]:
                print(f"    {name}: {text[:160]}", flush=True)
    return found


def distinct_draws(draws: int = 30) -> int:
    """How many of some draws are distinct that one thread makes while another scores."""

    class Slow(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(4, 3)

        def forward(self, x: Tensor) -> Tensor:
            time.sleep(0.1)
            return self.fc(x)

    monitor, x, stop = gradood.Monitor(Slow(), "energy"), torch.randn(4, 4), threading.Event()
    monitor.score(x)

    def score() -> None:
        while not stop.is_set():
            monitor.score(x)

    thread = threading.Thread(target=score)
    thread.start()
    drawn = set()
    for _ in range(draws):
        drawn.add(float(torch.rand((), dtype=torch.float64)))
        time.sleep(0.03)
    stop.set()
    thread.join()
    return len(drawn)


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--networks", default="mlp,plain-cnn,resnet")
    parser.add_argument("--detectors", default=",".join(m.name for m in gradood.methods()))
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    warnings.simplefilter("ignore", gradood.errors.GradoodWarning)
    sys.setswitchinterval(1e-5)
    results: dict[str, dict[str, dict[str, int]]] = {}
    print(f"{'detector on network':34}" + "".join(f"{name:>22}" for name in SITUATIONS))
    for network in given.networks.split(","):
        for detector in given.detectors.split(","):
            subject = Subject(
                gradood.Monitor(nn.Identity(), detector).detectors[detector], networks()[network]
            )
            if subject.refusal is not None:
                continue
            key = f"{detector} on {network}"
            results[key] = count(subject, given.rounds)
            cells = (f"{r['wrong']} wrong {r['refused']} refused" for r in results[key].values())
            print(f"{key:34}" + "".join(f"{cell:>22}" for cell in cells), flush=True)
    for name in SITUATIONS:
        rounds, wrong, refused = (
            sum(result[name][key] for result in results.values())
            for key in ("rounds", "wrong", "refused")
        )
        print(f"{name}: {rounds} rounds, {wrong} wrong scores, {refused} refused")
    print(f"{distinct_draws()} of 30 draws beside a score are distinct")
    if given.json:
        given.json.write_text(json.dumps(results, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
