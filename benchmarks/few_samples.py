"""AUROC of every learning method by the number of in-distribution samples that it was fitted on.

    python benchmarks/few_samples.py --features FOLDER/resnet20_cifar10 --rows 300 --out A.json
    python benchmarks/few_samples.py --model resnet20 --images --rows 150 --out B.json
    PYTHONPATH=OTHER/src python benchmarks/few_samples.py (the same) --out C.json
    python benchmarks/few_samples.py --page PAGE.md --now A.json B.json [--before C.json]

Fits on 1, 2, 5, 25 and 100 training samples of each class, two draws of each number (one of 100),
and scores test samples and as many of each outlier set. `--features` runs the methods of features
and logits on the last layer: FOLDER has `head.npz` (weight, bias) and, for `fit`, `test` and each
set of outliers, a file with `features` and `labels`. `--images` runs the other methods, on images
of ../shared. A method that refuses a fit has no figure there, but the reason; one that warns, or
logs a warning, is marked. The file is written after each method, and a run that was interrupted
goes on. The page counts figures that fell without a word: more than 10 points below the largest
fit, and not above 60, without a warning.
"""

import argparse
import json
import logging
import os
import warnings
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import gradood
from gradood.data import Preprocess, loader, open_images
from gradood.errors import GradoodWarning
from gradood.metrics import auroc
from gradood.models import REFERENCES, build, load_weights

ROOT = Path(__file__).resolve().parent.parent
SHARED = Path(os.environ.get("GRADOOD_SHARED", ROOT.parent / "shared"))
OOD = ("svhn_test", "textures10_test", "cifar100_test", "mnist_test")
KNOWN = ("cifar10_train_a", "cifar10_test")
EACH = (1, 2, 5, 25, 100)
DRAWS = 2
HEAD = {"features", "logits", "head", "labels"}
Set = tuple[Tensor, Tensor]
Figure = dict[str, Any]


def images(name: str, rows: int, model: str) -> Set:
    """Preprocessed images (rows, …) of one set, and their labels."""
    preprocess = Preprocess(**REFERENCES[model].preprocess)
    found = list(loader(open_images(f"{SHARED}/data/{name}.parquet[:{rows}]", preprocess)))
    return torch.cat([x for x, _ in found]), torch.cat([y for _, y in found])


class Messages(logging.Handler):
    """Log messages of gradood from warnings on, kept while it is entered."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a message."""
        self.texts.append(record.getMessage())

    def __enter__(self) -> "Messages":
        logging.getLogger("gradood").addHandler(self)
        return self

    def __exit__(self, *given: object) -> None:
        logging.getLogger("gradood").removeHandler(self)


def draws(labels: Tensor, each: int, count: int) -> list[Tensor]:
    """Rows of up to `count` draws of `each` samples of every class, those of each draw others."""
    rows = [(labels == c).nonzero()[:, 0] for c in labels.unique()]
    found = min(count, min(map(len, rows)) // each)
    return [torch.cat([r[i * each : (i + 1) * each] for r in rows]) for i in range(found)]


def figure(model: nn.Module, name: str, fit: Set, sets: dict[str, Set]) -> Figure:
    """Mean AUROC over the outlier sets, in percent, and whether it warned; or why it refused."""
    known, *others = sets
    batches = list(zip(fit[0].split(100), fit[1].split(100), strict=True))
    logged = Messages()
    with warnings.catch_warnings(record=True) as caught, logged:
        warnings.simplefilter("always")
        try:
            monitor = gradood.Monitor(model, [name], progress=False).fit(batches)
            scores = {k: monitor.score(list(x.split(250)))[name] for k, (x, _) in sets.items()}
        except gradood.errors.GradoodError as error:
            return {"refused": str(error)}
    values = [auroc(scores[known].numpy(), scores[other].numpy()) for other in others]
    warned = [str(w.message) for w in caught if issubclass(w.category, GradoodWarning)]
    told = [*warned, *logged.texts]
    return {"auroc": round(100 * sum(values) / len(values), 2), "warned": told[:1]}


def of_features(folder: Path, rows: int) -> tuple[nn.Module, Set, dict[str, Set]]:
    """The last layer, features to fit on, and those of each set, the known one first."""
    kept = np.load(folder / "head.npz")
    weight, bias = (torch.from_numpy(kept[name]) for name in ("weight", "bias"))
    head = nn.Linear(weight.shape[1], weight.shape[0])
    head.load_state_dict({"weight": weight, "bias": bias})
    last = nn.Sequential(OrderedDict(features=nn.Identity(), head=head)).eval()

    def part(name: str) -> Set:
        found = np.load(folder / f"{name}.npz")
        return torch.from_numpy(found["features"]), torch.from_numpy(found["labels"])

    outliers = {path.stem for path in folder.glob("*.npz")} - {"head", "fit", "val", "test"}
    sets = {name: part(name) for name in ("test", *sorted(outliers))}
    return last, part("fit"), {name: (x[:rows], y[:rows]) for name, (x, y) in sets.items()}


def of_images(model: str, rows: int) -> tuple[nn.Module, Set, dict[str, Set]]:
    """A network of ../shared, images to fit on, and those of each set, the known one first."""
    weights = SHARED / f"weights/{REFERENCES[model].weights}.safetensors"
    network = load_weights(build(model), weights).eval()
    sets = {name: images(name, rows, model) for name in (KNOWN[1], *OOD)}
    return network, images(KNOWN[0], 1500, model), sets


def measured(given: argparse.Namespace, names: list[str]) -> Iterator[tuple[str, Any]]:
    """Figures of each method at each size, averaged over the draws."""
    if given.images:
        model, fit, sets = of_images(given.model, given.rows)
    else:
        model, fit, sets = of_features(given.features, given.rows)
    for name in names:
        figures: dict[str, Figure] = {}
        for each in EACH:
            chosen = draws(fit[1], each, 1 if given.images or each == EACH[-1] else DRAWS)
            found = [figure(model, name, (fit[0][r], fit[1][r]), sets) for r in chosen]
            kept = [one for one in found if "auroc" in one]
            if kept:
                mean = sum(one["auroc"] for one in kept) / len(kept)
                warned = [text for one in kept for text in one["warned"]]
                figures[str(each)] = {"auroc": round(mean, 2), "warned": warned[:1]}
            elif found:
                figures[str(each)] = found[0]
        yield name, figures


def silent_falls(figures: dict[str, dict[str, Figure]]) -> list[str]:
    """Methods and sizes whose figure fell without a word."""
    found: list[str] = []
    for name, sizes in figures.items():
        values = {size: one["auroc"] for size, one in sizes.items() if "auroc" in one}
        for size, value in values.items():
            fell = value <= 60 and value < max(values.values()) - 10
            if fell and not sizes[size]["warned"]:
                found.append(f"`{name}` after {size} a class ({value:.1f})")
    return found


def page(before: list[dict[str, Any]], now: list[dict[str, Any]]) -> str:
    """The results as Markdown."""
    lines: list[str] = []
    for index, new in enumerate(now):
        old = before[index]["figures"] if index < len(before) else {}
        head = "| method | " + " | ".join(f"{each} a class" for each in EACH) + " |"
        lines += [f"## {new['model']}, {'images' if new['images'] else 'features'}", "", head]
        lines.append("|---|" + "---:|" * len(EACH))
        for name, figures in new["figures"].items():
            cells = [_cell(old.get(name, {}).get(str(e)), figures.get(str(e))) for e in EACH]
            lines.append(f"| `{name}` | {' | '.join(cells)} |")
        fallen = silent_falls(new["figures"])
        lines += ["", f"Fell without a word: {', '.join(fallen) or 'none'}.", ""]
    return "\n".join(lines)


def _cell(was: Figure | None, value: Figure | None) -> str:
    def shown(one: Figure | None) -> str:
        if one is None:
            return ""
        return "–" if "refused" in one else f"{one['auroc']:.1f}" + ("*" if one["warned"] else "")

    pair = [shown(was), shown(value)]
    return pair[1] if not pair[0] or pair[0] == pair[1] else " → ".join(pair)


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
    names = (
        given.methods.split(",")
        if given.methods
        else [
            m.name for m in gradood.methods() if m.learns and (set(m.needs) <= HEAD) != given.images
        ]
    )
    model = given.model if given.images else given.features.name
    result: dict[str, Any] = {"model": model, "images": given.images, "figures": {}}
    if given.out and given.out.exists():
        result = json.loads(given.out.read_text())
    for name, figures in measured(given, [n for n in names if n not in result["figures"]]):
        result["figures"][name] = figures
        print(name, {size: one.get("auroc") for size, one in figures.items()}, flush=True)
        if given.out:
            given.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
