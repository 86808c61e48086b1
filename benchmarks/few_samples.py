"""AUROC of every learning method by the number of in-distribution samples that it was fitted on.

    python benchmarks/few_samples.py --model resnet20 --features FOLDER --out A.json
    PYTHONPATH=OTHER/src python benchmarks/few_samples.py (the same) --out B.json
    python benchmarks/few_samples.py --page PAGE.md --before B.json --now A.json

Fits on 10, 20, 50, 250 and 1,000 training images of CIFAR-10, as many of each class, three draws of
each size (one of 1,000), and scores 1,000 test images and as many of each outlier set. Methods of
the features and logits alone run on the network's last layer, whose inputs are computed once, or
read from FOLDER (`fit.npz`, `val.npz`, `svhn.npz` and others with `features` and `labels`);
`--images` runs the other methods, on the network. A method that refuses a fit has no figure there.
"""

import argparse
import json
import os
import warnings
from collections import OrderedDict
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

import gradood
from gradood.data import Preprocess, loader, open_images
from gradood.metrics import auroc
from gradood.models import REFERENCES, build, load_weights

ROOT = Path(__file__).resolve().parent.parent
SHARED = Path(os.environ.get("GRADOOD_SHARED", ROOT.parent / "shared"))
OOD = ("svhn_test", "textures10_test", "cifar100_test", "mnist_test")
KNOWN = ("cifar10_train_a", "cifar10_test")
FILES = dict(
    zip((*KNOWN, *OOD), ("fit", "val", "svhn", "textures", "cifar100", "mnist"), strict=True)
)
SIZES = (10, 20, 50, 250, 1000)
DRAWS = 3
HEAD = {"features", "logits", "head", "labels"}
Set = tuple[Tensor, Tensor]
Figures = dict[str, dict[str, float | None]]


def images(name: str, rows: int, model: str) -> Set:
    """Preprocessed images (rows, …) of one set, and their labels."""
    preprocess = Preprocess(**REFERENCES[model].preprocess)
    found = list(loader(open_images(f"{SHARED}/data/{name}.parquet[:{rows}]", preprocess)))
    return torch.cat([x for x, _ in found]), torch.cat([y for _, y in found])


def inputs_of_head(network: nn.Module, head: nn.Module, x: Tensor) -> Tensor:
    """What the network's last layer takes."""
    seen: list[Tensor] = []
    handle = head.register_forward_pre_hook(lambda _, given: seen.append(given[0].detach()))
    with torch.no_grad():
        for part in x.split(100):
            network(part)
    handle.remove()
    return torch.cat(seen)


def draws(labels: Tensor, size: int, count: int) -> list[Tensor]:
    """Rows of `count` balanced draws of `size` samples, those of each draw others."""
    rows = [(labels == c).nonzero()[:, 0] for c in range(int(labels.max()) + 1)]
    each = size // len(rows)
    return [torch.cat([r[i * each : (i + 1) * each] for r in rows]) for i in range(count)]


def mean_auroc(model: nn.Module, name: str, fit: Set, sets: dict[str, Set]) -> float | None:
    """Mean over the outlier sets, in percent; None where the fit or a score is refused."""
    known, *others = sets
    batches = list(zip(fit[0].split(100), fit[1].split(100), strict=True))
    try:
        monitor = gradood.Monitor(model, [name]).fit(batches)
        scores = {key: monitor.score(list(some[0].split(250)))[name] for key, some in sets.items()}
    except gradood.errors.GradoodError:
        return None
    values = [auroc(scores[known].numpy(), scores[other].numpy()) for other in others]
    return round(100 * sum(values) / len(values), 2)


def judged(given: argparse.Namespace) -> tuple[nn.Module, Set, dict[str, Set]]:
    """What is scored, the samples to fit on, and the sets of which the first is known."""
    reference = REFERENCES[given.model]
    weights = SHARED / f"weights/{reference.weights}.safetensors"
    network = load_weights(build(given.model), weights).eval()
    head = [m for m in network.modules() if isinstance(m, nn.Linear)][-1]
    last = nn.Sequential(OrderedDict(features=nn.Identity(), head=head))
    if given.features:
        found = {
            name: (torch.from_numpy(kept["features"]), torch.from_numpy(kept["labels"]))
            for name, file in FILES.items()
            for kept in [np.load(given.features / f"{file}.npz")]
        }
        fit = found.pop(KNOWN[0])
        return last, fit, {k: (x[: given.rows], y[: given.rows]) for k, (x, y) in found.items()}
    fit = images(KNOWN[0], 4000, given.model)
    sets = {name: images(name, given.rows, given.model) for name in (KNOWN[1], *OOD)}
    if given.images:
        return network, fit, sets
    every = {k: (inputs_of_head(network, head, x), y) for k, (x, y) in sets.items()}
    return last, (inputs_of_head(network, head, fit[0]), fit[1]), every


def measured(given: argparse.Namespace, names: list[str]) -> Figures:
    """Mean AUROC of each method at each size, averaged over the draws."""
    model, fit, sets = judged(given)
    figures: Figures = {}
    for name in names:
        figures[name] = {}
        for size in SIZES:
            chosen = draws(fit[1], size, 1 if given.images or size == SIZES[-1] else DRAWS)
            found = [mean_auroc(model, name, (fit[0][r], fit[1][r]), sets) for r in chosen]
            kept = [value for value in found if value is not None]
            figures[name][str(size)] = sum(kept) / len(kept) if kept else None
        print(name, figures[name], flush=True)
    return figures


def page(before: list[dict], now: list[dict]) -> str:
    """The results as Markdown."""
    head = f"| method | {' | '.join(f'{size:,}' for size in SIZES)} |"
    lines = [
        "# Few samples",
        "",
        "Mean AUROC in percent (SVHN, textures, CIFAR-100, MNIST) by the number of CIFAR-10 "
        "training images fitted on, as many of each class. Where the earlier version gave another "
        "figure by half a point or more, it stands left of an arrow. A dash: refused, by name. "
        "Made with `benchmarks/few_samples.py`, whose docstring has the commands.",
        "",
    ]
    for old, new in zip(before, now, strict=True):
        where = "images" if new["images"] else "features"
        lines += [f"## {new['model']}, {where}", "", head, "|---|" + "---:|" * len(SIZES)]
        for name, figures in new["figures"].items():
            was = old["figures"].get(name, {})
            cells = [_cell(was.get(str(s)), figures[str(s)]) for s in SIZES]
            lines.append(f"| `{name}` | {' | '.join(cells)} |")
        lines.append("")
    return "\n".join(lines)


def _cell(was: float | None, value: float | None) -> str:
    shown = [("–" if v is None else f"{v:.1f}") for v in (was, value)]
    alike = was == value or (None not in (was, value) and abs(was - value) < 0.5)
    return shown[1] if alike else " → ".join(shown)


def main() -> None:
    """Measure, or write the page of what was measured."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", default="resnet20")
    parser.add_argument("--methods", help="names, separated by commas; else all that learn")
    parser.add_argument("--images", action="store_true", help="methods that read inner layers")
    parser.add_argument("--features", type=Path, help="folder of features computed before")
    parser.add_argument("--rows", type=int, default=1000, help="images of each set")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--page", type=Path)
    parser.add_argument("--before", type=Path, nargs="*", default=[])
    parser.add_argument("--now", type=Path, nargs="*", default=[])
    given = parser.parse_args()
    if given.page:
        old, new = ([json.loads(p.read_text()) for p in some] for some in (given.before, given.now))
        given.page.write_text(page(old, new))
        return
    warnings.simplefilter("ignore")
    names = (
        given.methods.split(",")
        if given.methods
        else [
            m.name for m in gradood.methods() if m.learns and (set(m.needs) <= HEAD) != given.images
        ]
    )
    figures = measured(given, names)
    result = {"model": given.model, "images": given.images, "figures": figures}
    if given.out:
        given.out.write_text(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
