"""Arena records to make pages of: drawn scores, in the form that `gradood bench` writes."""

from collections.abc import Mapping, Sequence
from itertools import combinations
from math import erfc, sqrt
from typing import Any

import numpy as np
from PIL import Image

from gradood.metrics import summary
from gradood.metrics.counts import Counts

SETS = (("cifar100", "near"), ("tinyimagenet", "near"), ("svhn", "far"), ("textures", "far"))
METHODS = ("energy", "gradnorm", "knn", "msp", "odin", "gaia-z")
SIZE = 400
MEASURES = ("auroc", "aupr_in", "aupr_out", "fpr_ood_at_tpr_id95", "fpr_id_at_tpr_ood95")

Scores = dict[str, dict[str, dict[str, np.ndarray]]]


def drawn_scores(
    *,
    runs: Sequence[str] = ("resnet20#0",),
    sets: Sequence[tuple[str, str]] = SETS,
    methods: Sequence[str] = METHODS,
    size: int = SIZE,
) -> Scores:
    """A shared difficulty per image and noise per method, so that methods agree as real ones do."""
    rng = np.random.default_rng(5)
    quality = {method: rng.uniform(0.4, 2.2) for method in methods}
    found: Scores = {}
    for run in runs:
        found[run] = {}
        for number, name in enumerate(["id", *(name for name, _ in sets)]):
            image = rng.normal(size=size)
            found[run][name] = {
                method: image
                + rng.normal(scale=0.7, size=size)
                + (number > 0) * quality[method] * (0.5 + number / len(sets))
                for method in methods
            }
    if "gaia-z" in methods:
        for run in runs:  # A method that is worse than guessing.
            found[run][sets[-1][0]]["gaia-z"] = -found[run][sets[-1][0]]["gaia-z"]
    return found


def arena(
    scores: Mapping[str, Mapping[str, Mapping[str, np.ndarray]]],
    sets: Sequence[tuple[str, str]] = SETS,
    **changes: Any,
) -> dict[str, Any]:
    """The record that belongs to the scores; intervals and tests by rough normal theory."""
    runs = [_run(name, given, sets) for name, given in scores.items()]
    methods = list(runs[0]["methods"])
    record = {
        "format": "gradood-arena",
        "version": 1,
        "command": "gradood bench --suite cifar10-local --model resnet20",
        "date": "2026-11-21T11:41:26+00:00",
        "commit": "969747cc8fa201dbec3b57a5d30426765325ed9f",
        "versions": {"gradood": "0.1.0", "torch": "2.13.0+cpu", "python": "3.11.7"},
        "machine": {"system": "Linux", "processor": "x86_64", "threads": 2},
        "settings": {"batch_size": 128, "workers": 0, "device": "cpu"},
        "suite": {
            "name": "cifar10-local",
            "version": 1,
            "id": {"name": "cifar10", "path": "cifar10_test.parquet", "n": _size(scores, "id")},
            "ood": [
                {
                    "name": name,
                    "group": group,
                    "n": _size(scores, name),
                    "path": f"{name}.parquet",
                    "sha256": "0" * 64,
                }
                for name, group in sets
            ],
            "preprocess": {"mode": "RGB", "crop": 32},
            "checked": True,
        },
        "hyper_parameters": "fixed",
        "runs": runs,
        "seeds": _seeds(runs, methods) if len(runs) > 1 else {},
        "comparisons": [row for run in runs for row in _comparisons(run)],
        "ranking": _ranking(runs, methods),
    }
    return {**record, **changes}


def thumbnails(name: str, indices: list[int]) -> list[Image.Image]:
    """Noise of a color that tells the set, 32 by 32."""
    rng = np.random.default_rng(len(name))
    tint = rng.integers(60, 196, 3)
    noise = rng.integers(-60, 60, (len(indices), 8, 8, 3))
    pixels = np.clip(tint + noise, 0, 255).astype(np.uint8)
    return [Image.fromarray(p).resize((32, 32), Image.Resampling.BICUBIC) for p in pixels]


def _size(scores: Mapping[str, Mapping[str, Mapping[str, np.ndarray]]], name: str) -> int:
    first = next(iter(scores.values()))[name]
    return int(next(iter(first.values())).size)


def _run(
    name: str, scores: Mapping[str, Mapping[str, np.ndarray]], sets: Sequence[tuple[str, str]]
) -> dict[str, Any]:
    methods = list(scores["id"])
    rows = [_row(method, ood, scores) for method in methods for ood, _ in sets]
    return {
        "run": name,
        "seed": 0,
        "subject": {
            "model": "resnet20",
            "class": "CifarResNet",
            "parameters": 269_722,
            "weights": "resnet20_cifar10.safetensors",
            "weights_sha256": "02926273" * 8,
            "published_accuracy": 0.9173,
            "preprocess": {"mode": "RGB", "resize": None, "crop": 32},
        },
        "classes": 10,
        "id_accuracy": 0.9173,
        "methods": {method: _method(method, number) for number, method in enumerate(methods)},
        "left_out": {"vim": "it needs more features than classes; this network has 10 of each."},
        "rows": rows,
        "means": _means(rows, methods, sets),
        "cost": {
            method: {
                "seconds_per_image": 0.002 * (1 + number / 7),
                "time_ratio": 2.9 if method == "odin" else 1 + (number * 7 % 11) / 12,
                "memory_ratio": 1 + (number * 5 % 7) / 6,
                "fit_passes": number % 2,
                "pass": "own" if method == "odin" else "shared",
            }
            for number, method in enumerate(methods)
        },
        "seconds": {"fit": 12.5, "id": 3.25},
    }


def _method(name: str, number: int) -> dict[str, Any]:
    return {
        "method": name,
        "title": f"What {name} measures.",
        "paper": f"{name}2023",
        "options": {"k": 50, "layers": None} if number % 2 else {},
        "notes": ["last map: layer3"] if number % 3 == 0 else [],
        "caveats": ["this network has no ReLU to read."] if name == "gaia-z" else [],
        "pass": "own" if name == "odin" else "shared",
        "fits": number % 2 == 1,
        "chosen_by": "fixed",
    }


def _row(method: str, ood: str, scores: Mapping[str, Mapping[str, np.ndarray]]) -> dict[str, Any]:
    known, unknown = scores["id"][method], scores[ood][method]
    made = summary(known, unknown)
    values = {measure: getattr(made, measure) for measure in MEASURES}
    spread = 1.96 * sqrt(Counts.of(known, unknown).auroc_variance())
    return {
        "method": method,
        "ood": ood,
        "n_id": known.size,
        "n_ood": unknown.size,
        **values,
        "intervals": {
            name: [max(0.0, value - spread), min(1.0, value + spread)]
            for name, value in values.items()
        },
    }


def _means(
    rows: Sequence[Mapping[str, Any]], methods: Sequence[str], sets: Sequence[tuple[str, str]]
) -> list[dict[str, Any]]:
    found = []
    for method in methods:
        for group in ("all", "near", "far"):
            inside = {name for name, kind in sets if group in ("all", kind)}
            chosen = [r for r in rows if r["method"] == method and r["ood"] in inside]
            if not chosen:
                continue
            mean: dict[str, Any] = {"method": method, "group": group, "intervals": {}}
            for measure in MEASURES:
                value = float(np.mean([row[measure] for row in chosen]))
                halves = [np.diff(row["intervals"][measure])[0] / 2 for row in chosen]
                half = float(np.sqrt(np.sum(np.square(halves)))) / len(chosen)
                mean[measure] = value
                mean["intervals"][measure] = [value - half, value + half]
            found.append(mean)
    return found


def _comparisons(run: Mapping[str, Any]) -> list[dict[str, Any]]:
    found = []
    for group in ("all", "near", "far"):
        for measure in ("auroc", "fpr_ood_at_tpr_id95"):
            means = {m["method"]: m for m in run["means"] if m["group"] == group}
            for a, b in combinations(means, 2):
                difference = means[a][measure] - means[b][measure]
                low, high = means[a]["intervals"][measure]
                error = max(1e-9, (high - low) / 4)
                p = erfc(abs(difference) / error / sqrt(2))
                adjusted = min(1.0, p * len(means) * (len(means) - 1) / 2)
                found.append(
                    {
                        "run": run["run"],
                        "metric": measure,
                        "group": group,
                        "a": a,
                        "b": b,
                        "difference": difference,
                        "interval": [difference - 2 * error, difference + 2 * error],
                        "p": p,
                        "p_holm": adjusted,
                        "significant": adjusted < 0.05,
                    }
                )
    return found


def _ranking(runs: Sequence[Mapping[str, Any]], methods: Sequence[str]) -> dict[str, Any]:
    blocks: dict[tuple[str, str], dict[str, float]] = {}
    for run in runs:
        for row in run["rows"]:
            blocks.setdefault((run["run"], row["ood"]), {})[row["method"]] = row["auroc"]
    ranks = np.array(
        [
            np.argsort(np.argsort([-block[method] for method in methods])) + 1
            for block in blocks.values()
        ]
    ).mean(0)
    k, critical = len(methods), 2.85 * sqrt(len(methods) * (len(methods) + 1) / 6 / len(blocks))
    order = np.argsort(ranks)
    cliques: list[list[str]] = []
    for start in range(k):
        inside = [i for i in order[start:] if ranks[i] - ranks[order[start]] <= critical]
        names = [methods[i] for i in inside]
        if len(names) > 1 and not any(set(names) <= set(known) for known in cliques):
            cliques.append(names)
    return {
        "metric": "auroc",
        "blocks": len(blocks),
        "mean_rank": {method: float(rank) for method, rank in zip(methods, ranks, strict=True)},
        "friedman_p": 0.0012,
        "critical_difference": critical,
        "cliques": cliques,
    }


def _seeds(runs: Sequence[Mapping[str, Any]], methods: Sequence[str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for method in methods:
        for group in ("all", "near", "far"):
            means = [
                mean
                for run in runs
                for mean in run["means"]
                if (mean["method"], mean["group"]) == (method, group)
            ]
            if means:
                found.setdefault(method, {})[group] = {
                    measure: {
                        "mean": float(np.mean([mean[measure] for mean in means])),
                        "sd": float(np.std([mean[measure] for mean in means], ddof=1)),
                        "n": len(means),
                    }
                    for measure in MEASURES
                }
    return found
