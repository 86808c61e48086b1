"""Whether contributions sum to the scores, and whether the leading units carry them.

    python benchmarks/attribution.py FOLDER [--fit 2000] [--rows 500] [--write FILE.json]
    python benchmarks/attribution.py --page FILE.json ... > PAGE.md

FOLDER holds readings of one network made before, as benchmarks/guard.py describes: ``head.npz``,
``fit`` (training images), ``test`` (held-out images) and ``svhn`` (unknown ones). The model is the
head on these features; methods that read other layers, or steps of the input, are left out. The
methods are fitted on `fit`, whose mean feature is the reference; nothing is chosen on the others.

Gap: the largest of ``|score − reference − units − parts|`` relative to ``|score − reference|``.
Removal: of each unknown image, the tenth of the units that contribute the most are set to the
reference, and the score is computed again; what it falls by is given in standard deviations of the
known images' scores, beside that for as many random units (mean of five draws), and for those with
the largest gradient × input.
"""

import argparse
import json
import sys
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import gradood
from gradood.attribution import contributions, read_evidence, unexplained
from gradood.evidence import FEATURES, LOGITS, Evidence, own_pass

SHARE, DRAWS = 0.1, 5


def network(folder: Path) -> nn.Module:
    """The head, as a model that takes features."""
    stored = np.load(folder / "head.npz")
    weight, bias = torch.from_numpy(stored["weight"]), torch.from_numpy(stored["bias"])
    head = nn.Linear(weight.shape[1], weight.shape[0])
    with torch.no_grad():
        head.weight.copy_(weight)
        head.bias.copy_(bias)
    return nn.Sequential(nn.Identity(), head)


def some(folder: Path, name: str, rows: int) -> tuple[Tensor, Tensor]:
    """Features and labels of one set, evenly spaced in its order."""
    stored = np.load(folder / f"{name}.npz")
    every = max(1, len(stored["features"]) // rows)
    features = torch.from_numpy(stored["features"]).float()[::every][:rows]
    return features, torch.from_numpy(stored["labels"].astype(np.int64))[::every][:rows]


def score_of(detector: Any, evidence: Evidence, state: Any) -> Any:
    """The score as a function of features (m, width) of rows (m,)."""
    head = evidence.linear
    weight, bias = head.weight.double(), head.bias
    made = evidence.features.double() @ weight.T + (0.0 if bias is None else bias.double())
    beyond = evidence.logits - made

    def score(points: Tensor, rows: Tensor) -> Tensor:
        logits = points @ weight.T + (0.0 if bias is None else bias.double()) + beyond[rows]
        values = {read: tensor[rows] for read, tensor in evidence._read.items()}
        values |= {FEATURES: points, LOGITS: logits}
        return detector.measure(replace(evidence, size=len(points), _read=values), state)

    return score


def drop(score: Any, evidence: Evidence, reference: Tensor, units: Tensor) -> Tensor:
    """(rows,) how much the scores fall where these units are set to the reference."""
    rows = torch.arange(evidence.size)
    before = evidence.features.double()
    after = before.scatter(1, units, reference.expand_as(before).gather(1, units))
    return score(before, rows) - score(after, rows)


def removal(
    detector: Any, evidence: Evidence, state: Any, reference: Tensor, leading: Tensor
) -> dict[str, float]:
    """Mean falls: of the leading units, of random ones, of those by gradient × input."""
    score, count = score_of(detector, evidence, state), leading.shape[1]
    found = {"units": float(drop(score, evidence, reference, leading).mean())}
    generator = torch.Generator().manual_seed(0)
    draws = []
    for _ in range(DRAWS):
        order = torch.rand(evidence.features.shape, generator=generator)
        draws.append(drop(score, evidence, reference, order.topk(count, 1).indices).mean())
    found["random"] = float(torch.stack(draws).mean())
    leaf = evidence.features.double().detach().requires_grad_()
    try:
        with torch.enable_grad():
            total = score(leaf, torch.arange(evidence.size)).sum()
            (slope,) = torch.autograd.grad(total, leaf)
    except RuntimeError:  # It has none.
        return found
    order = (slope.nan_to_num() * leaf.detach()).topk(count, 1).indices
    found["gradient"] = float(drop(score, evidence, reference, order).mean())
    return found


def measured(folder: Path, fit: int, rows: int) -> dict[str, Any]:
    """All figures of one network."""
    model, (x, y) = network(folder), some(folder, "fit", fit)
    names = [method.name for method in gradood.methods()]
    monitor = gradood.Monitor(model, names, skip_unusable=True, progress=False)
    monitor.bind(x[:64])
    bound = monitor._session.state.bound
    assert bound is not None
    # Without those that no unit explains, and steps of inputs, which are features here.
    stepped = {n for n, plan in bound.binding.plans.items() if any(map(own_pass, plan.reads))}
    keep = [n for n in bound.detectors if n not in stepped | unexplained(bound).keys()]
    monitor = gradood.Monitor(model, keep, skip_unusable=True, progress=False).fit([(x, y)])
    bound = monitor._session.state.bound
    assert bound is not None
    reference = x.double().mean(0)
    both = [read_evidence(bound, some(folder, name, rows)[0]) for name in ("test", "svhn")]
    table: dict[str, Any] = {}
    width = both[0].features.shape[1]
    count = max(1, round(SHARE * width))
    for name, detector in bound.detectors.items():
        state = bound.states.get(name, {})
        own = [replace(part, reads=bound.reads(name)) for part in both]
        made = [contributions(detector, part, reference, state) for part in own]
        gaps = torch.cat([m.relative_gap[m.gap.isfinite()] for m in made])
        errors = torch.cat([(m.error / m.units.abs().sum(1))[m.gap.isfinite()] for m in made])
        spread = float(made[0].score.std())
        falls = removal(detector, own[1], state, reference, made[1].leading(count))
        table[name] = {"gap": float(gaps.max()), "error": float(errors.max())}
        table[name] |= {key: fall / spread for key, fall in falls.items()}
        print(name, table[name], file=sys.stderr, flush=True)
    return {"network": folder.name, "fit": fit, "rows": rows, "width": width, "methods": table}


def page(files: list[Path]) -> str:
    """The results as a page."""
    lines = []
    for file in files:
        found = json.loads(file.read_text())
        table = found["methods"]
        lines += [f"\n## {found['network']}\n"]
        full = [m for m in table.values() if "gradient" in m]
        better = sum(m["units"] > m["random"] for m in table.values())
        beats = sum(m["units"] > m["gradient"] for m in full)
        lines += [
            f"{len(table)} methods; fitted on {found['fit']} samples; {found['rows']} known and "
            f"{found['rows']} unknown test samples; {found['width']} units, of which "
            f"{max(1, round(SHARE * found['width']))} are removed. Largest gap "
            f"{max(m['gap'] for m in table.values()):.1e}. The leading units lower the score more "
            f"than random ones with {better} of {len(table)} methods, and more than those by "
            f"gradient × input with {beats} of {len(full)}.\n"
        ]
        lines += ["| method | largest gap | leading units | random | gradient × input |"]
        lines += ["|---|---|---|---|---|"]
        for name, m in table.items():
            gradient = f"{m['gradient']:.2f}" if "gradient" in m else "none"
            lines += [
                f"| {name} | {m['gap']:.0e} | {m['units']:.2f} | {m['random']:.2f} | {gradient} |"
            ]
    return "\n".join(lines)


def main() -> None:
    """Measure one network, or write the page."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("folder", nargs="?", type=Path)
    parser.add_argument("--fit", type=int, default=2000)
    parser.add_argument("--rows", type=int, default=500)
    parser.add_argument("--write", type=Path)
    parser.add_argument("--page", type=Path, nargs="+")
    given = parser.parse_args()
    if given.page:
        print(page(given.page))
        return
    warnings.simplefilter("ignore")
    found = measured(given.folder, given.fit, given.rows)
    text = json.dumps(found, indent=1)
    print(text) if given.write is None else given.write.write_text(text)


if __name__ == "__main__":
    main()
