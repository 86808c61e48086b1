"""Every method with a setting, three times: automatic, as published, and the best in hindsight.

    python benchmarks/settings.py FOLDER [--images 300] [--methods a,b] [--out PAGE.md]

FOLDER holds readings made before, `<network>/<set>.npz` with `features`, `logits` and `labels`, and
`<network>/head.npz` with `weight` and `bias`: `fit` is fitted on, `test` is in-distribution, other
sets but `val` are outliers. Methods that read more than features and logits are run on images of
`../shared` with `--images N`: N to fit on, and N of each set.

The row *in hindsight* is chosen by the outliers it is measured on, from the grid below and the two
other rows: it says what a setting could give, and is nothing that a user can have.
"""

import argparse
import sys
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from five_networks import OUTLIERS, SHARED
from torch import Tensor, nn

import gradood
from gradood.bench.folder import commit
from gradood.data import Preprocess, loader, open_images
from gradood.detectors.base import Detector
from gradood.errors import GradoodError
from gradood.evidence import FEATURES, KEYS, LOGITS
from gradood.metrics import auroc
from gradood.models import REFERENCES, build, load_weights
from gradood.registry import create, detector_class

SHARES = (0, 20, 40, 50, 60, 65, 70, 75, 80, 85, 90, 92.5, 95, 97.5)
GRIDS: dict[str, Mapping[str, Iterable[Any]]] = {
    **{name: {"percentile": SHARES} for name in ("ash-b", "ash-p", "ash-s", "scale", "lts")},
    "react": {"percentile": (80, 85, 90, 92.5, 95, 97, 98, 99, 99.5, 100)},
    "dice": {"percentile": (0, 10, 30, 50, 70, 80, 85, 90, 95)},
    "vra": {"eta_alpha": (0.2, 0.4, 0.5, 0.6, 0.7, 0.8), "eta_beta": (0.85, 0.9, 0.95, 0.99)},
    "line": {
        "weight_percentile": (10, 50, 70, 90),
        "activation_percentile": (10, 50, 90),
        "clip": ("auto", 0.8, 1.0, 1.5, 2.0, 3.0),
    },
    "adascale-a": {"p_min": (40, 60, 75, 85), "p_max": (60, 70, 85, 90, 95)},
    "adascale-l": {"p_min": (40, 60, 75, 85), "p_max": (60, 70, 85, 90, 95)},
    "knn": {"k": (1, 5, 10, 20, 50, 100, 200)},
    "nnguide": {"k": (1, 5, 10, 50, 100), "alpha": (0.01, 0.1, 1.0)},
    "low-dim-grad": {"k": (1, 5, 10, 20)},
    "neco": {"dimension": (5, 9, 12, 20, 40), "max_logit": (False, True)},
    "vim": {"dimension": (4, 9, 16, 32, 48)},
    "residual": {"dimension": (4, 9, 16, 32, 48)},
}
"""Settings tried for the row in hindsight, by method; a method without stays with two rows."""


@dataclass(frozen=True)
class Network:
    """A model with inputs to fit on, known ones and sets of outliers.

    Attributes:
        name: for the tables.
        model: takes the inputs.
        fit: batches (x, y).
        test: in-distribution inputs.
        outliers: inputs by the name of their set.
    """

    name: str
    model: nn.Module
    fit: Any
    test: Any
    outliers: dict[str, Any]


@dataclass(frozen=True)
class Row:
    """One method at one setting on one network; AUROC in percent by set."""

    method: str
    setting: str
    options: str
    found: dict[str, float]

    @property
    def mean(self) -> float:
        """Over all sets."""
        return sum(self.found.values()) / len(self.found)


def of_readings(folder: Path) -> Network:
    """The head alone, on features read before."""
    arrays = np.load(folder / "head.npz")
    weight, bias = (torch.from_numpy(arrays[name]) for name in ("weight", "bias"))
    head = nn.Linear(weight.shape[1], weight.shape[0])
    head.load_state_dict({"weight": weight, "bias": bias})

    def features(name: str) -> Tensor:
        return torch.from_numpy(np.load(folder / f"{name}.npz")["features"])

    labels = torch.from_numpy(np.load(folder / "fit.npz")["labels"])
    known = {"head", "fit", "val", "test"}
    sets = sorted(path.stem for path in folder.glob("*.npz") if path.stem not in known)
    return Network(
        folder.name,
        nn.Sequential(nn.Identity(), head).eval(),
        [(features("fit"), labels)],
        features("test"),
        {name: features(name) for name in sets},
    )


def of_images(name: str, count: int) -> Network:
    """A network of ours on images of `../shared`, `count` of each set."""
    kind = name.removesuffix("_cifar10")
    reference = REFERENCES[kind]
    weights = SHARED / f"weights/{reference.weights}.safetensors"
    preprocess = Preprocess(**reference.preprocess)

    def images(source: str, start: int = 0) -> Any:
        rows = f"[{start}:{start + count}]"
        return loader(open_images(f"{SHARED}/data/{source}.parquet{rows}", preprocess))

    return Network(
        name,
        load_weights(build(kind), weights).eval(),
        images("cifar10_train_a"),
        images("cifar10_test", 3000),
        {key: images(source) for key, source in OUTLIERS.items()},
    )


def settings(method: str) -> dict[str, Detector]:
    """Every setting of a method by its words; the automatic and the published one come first."""
    kind = detector_class(method)
    found = {"auto": create(method), "published": create(method, **kind.published)}
    grid = GRIDS.get(method, {})
    for values in product(*grid.values()):
        try:
            detector = create(method, **dict(zip(grid, values, strict=True)))
        except GradoodError:
            continue  # Options that contradict, such as p_min above p_max.
        found[shown(detector)] = detector
    return found


def shown(detector: Detector) -> str:
    """The options that are not the defaults."""
    return repr(detector).partition("(")[2].removesuffix(")") or "defaults"


def chosen(network: Network, method: str, monitor: gradood.Monitor) -> str:
    """What the automatic setting came to, as far as the state says."""
    state = monitor.states.get(f"{method} auto", {})
    numbers = [f"{k}={float(v):.3g}" for k, v in state.items() if v.ndim == 0 and k in _SHOWN]
    return ", ".join(numbers) or shown(monitor.detectors[f"{method} auto"])


_SHOWN = ("percentile", "clip", "eta_alpha", "eta_beta", "p_min", "p_max", "k", "alpha")


def needs_maps(network: Network, method: str) -> bool:
    """Whether a method reads more than features and logits."""
    first = network.fit[0][0][:32]
    plan = gradood.Monitor(network.model, method, progress=False).bind(first).plans[method]
    return not {*plan.reads, *plan.fit_reads} <= {FEATURES, LOGITS, KEYS}


def rows(network: Network, method: str) -> list[Row]:
    """Three rows of one method, or two where it has no grid.

    Raises:
        GradoodError: it does not run there.
    """
    detectors = {f"{method} {words}": kind for words, kind in settings(method).items()}
    monitor = gradood.Monitor(network.model, detectors, progress=False).fit(network.fit)
    known = monitor.score(network.test)
    outliers = {name: monitor.score(inputs) for name, inputs in network.outliers.items()}
    every: dict[str, dict[str, float]] = {}
    for name in detectors:
        every[name.removeprefix(f"{method} ")] = {
            key: 100 * auroc(known[name], scores[name]) for key, scores in outliers.items()
        }
    best = max(every, key=lambda words: sum(every[words].values()))
    published = shown(detectors[f"{method} published"])
    words = {"auto": chosen(network, method, monitor), "published": published}
    found = [Row(method, name, words[name], every[name]) for name in words]
    if method in GRIDS:
        found.append(Row(method, "in hindsight", words.get(best, best), every[best]))
    return found


def table(name: str, found: list[Row]) -> list[str]:
    """Markdown of one network."""
    sets = list(found[0].found)
    lines = [f"## {name}", "", "| method | setting | | mean | " + " | ".join(sets) + " |"]
    lines.append("|---|---|---|---:|" + "---:|" * len(sets))
    for row in found:
        cells = " | ".join(f"{row.found[key]:.1f}" for key in sets)
        title = f"`{row.method}`" if row.setting == "auto" else ""
        setting = f"*{row.setting}*" if row.setting == "in hindsight" else row.setting
        lines.append(f"| {title} | {setting} | {row.options} | {row.mean:.1f} | {cells} |")
    return [*lines, ""]


def losses(networks: Mapping[str, list[Row]]) -> list[str]:
    """What the automatic setting loses to the two others, by method, at worst over the networks."""
    lines = ["## Auto against the others", ""]
    lines.append("Points of mean AUROC that the automatic setting loses, at worst and on average")
    lines.append("over the networks; a minus sign is a gain.")
    lines += ["", "| method | to published | mean | to hindsight | mean |"]
    lines.append("|---|---:|---:|---:|---:|")
    methods = dict.fromkeys(row.method for found in networks.values() for row in found)
    for method in methods:
        cells: list[str] = []
        for setting in ("published", "in hindsight"):
            differences: list[float] = []
            for found in networks.values():
                mean = {row.setting: row.mean for row in found if row.method == method}
                if setting in mean:
                    differences.append(mean[setting] - mean["auto"])
            cells += [f"{max(differences):.1f}"] if differences else ["–"]
            cells += [f"{sum(differences) / len(differences):.1f}"] if differences else ["–"]
        lines.append(f"| `{method}` | {' | '.join(cells)} |")
    return [*lines, ""]


def methods_with_settings() -> list[str]:
    """Methods whose defaults are not the published options, or that choose a setting."""
    kinds = {method.name: detector_class(method.name) for method in gradood.methods()}
    return [
        name
        for name, kind in kinds.items()
        if kind.published or name in GRIDS or "auto" in map(str, create(name).options().values())
    ]


def main() -> None:
    """Run every method on every network, and write the page."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--images", type=int, default=0, metavar="N")
    parser.add_argument("--methods", help="names with commas; all that have a setting")
    parser.add_argument("--networks", help="names with commas; all in the folder")
    parser.add_argument("--out", type=Path, help="write the page here, too")
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    places = sorted(path.parent for path in given.folder.glob("*/head.npz"))
    if given.networks:
        places = [given.folder / name for name in given.networks.split(",")]
    names = given.methods.split(",") if given.methods else methods_with_settings()
    found: dict[str, list[Row]] = {}
    left: list[str] = []
    for place in places:
        readings = of_readings(place)
        images = of_images(place.name, given.images) if given.images else None
        found[place.name] = []
        for method in names:
            try:
                maps = needs_maps(readings, method)
                if maps and images is None:
                    raise GradoodError("reads more than features and logits: give --images.")
                network = images if maps and images is not None else readings
                found[place.name] += rows(network, method)
            except GradoodError as error:
                left.append(f"- `{method}` on {place.name}: {error}")
            print(place.name, method, flush=True)
    page = [
        "# Settings: automatic, published, in hindsight",
        "",
        f"{datetime.now(UTC):%Y-%m-%d}, commit {commit()}, torch {torch.__version__}. Made with",
        "",
        "    " + " ".join(["python benchmarks/settings.py", *sys.argv[1:]]),
        "",
        "AUROC in percent. *Auto* is the default: a rule on the fit data alone (ADR 0035).",
        "*Published* are the options of the paper or its released code for networks of this kind.",
        "*In hindsight* is the best of a grid (in the script), chosen on the very outliers that it",
        "is measured on: a bound, and nothing that a user can have.",
        "",
        *losses(found),
        *(line for name, lines in found.items() if lines for line in table(name, lines)),
    ]
    page += ["## Left out", "", *left, ""] if left else []
    print("\n".join(page))
    if given.out:
        given.out.write_text("\n".join(page).rstrip() + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
