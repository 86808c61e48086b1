"""Arena records of made-up scores, as `gradood bench` writes them."""

import numpy as np

from gradood.metrics import Analysis, over_seeds

GROUPS = {"cifar100": "near", "svhn": "far"}


def scores(seed=0, n=300, m=240, *, shifts=None):
    """Set (``"id"`` for the known) → method → (n,) scores; larger shifts are better methods."""
    shifts = shifts or {"energy": 1.5, "msp": 1.2}
    rng = np.random.default_rng(seed)
    images = {"id": (0, rng.normal(0, 1, n))}
    images |= {name: (1, rng.normal(0, 1, m)) for name in GROUPS}
    noise = {name: rng.normal(0, 1, len(look)) for name, (_, look) in images.items()}
    return {
        name: {method: shift * ood + look + 0.3 * noise[name] for method, shift in shifts.items()}
        for name, (ood, look) in images.items()
    }


def record(runs, **suite):
    """The record of run → scores."""
    told = [_run(name, own) for name, own in runs.items()]
    first = next(iter(runs.values()))
    size = {name: len(next(iter(methods.values()))) for name, methods in first.items()}
    sets = [
        {"name": s, "group": GROUPS[s], "path": f"{s}.parquet", "n": size[s], "sha256": s * 8}
        for s in GROUPS
    ]
    own = {"path": "id.parquet", "n": size["id"], "sha256": "id", "fit": [], "classes": 10}
    return {
        "format": "gradood-arena",
        "version": 1,
        "command": "gradood bench",
        "date": "2026-07-01T00:00:00+00:00",
        "commit": None,
        "versions": {},
        "machine": {},
        "suite": {"name": "made-up", "version": 1, "title": "Made up", "id": own, "ood": sets}
        | {"preprocess": {}, "checked": True}
        | suite,
        "settings": {},
        "hyper_parameters": {"kind": "fixed", "how": "as published"},
        "runs": told,
        "seeds": over_seeds([run["means"] for run in told]),
        "comparisons": [],
        "ranking": {},
    }


def _run(name, own):
    known = own["id"]
    unknown = {s: own[s] for s in GROUPS}
    found = Analysis.of(known, unknown, GROUPS, draws=100, precision_draws=40)
    methods = {m: {"method": m, "options": {}, "notes": [], "caveats": []} for m in known}
    return {
        "run": name,
        "label": name,
        "seed": None,
        "methods": methods,
        "rows": found.rows(),
        "means": found.means(),
    }
