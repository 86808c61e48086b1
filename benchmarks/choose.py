"""How much of the best detector's AUROC a choice by in-distribution data alone keeps.

    python benchmarks/choose.py --networks resnet20,resnet56,densenet101
        [--network LABEL=SPEC@WEIGHTS]… [--records DIR] [--write docs/results/choose.md]

Each network of CIFAR-10 is fitted on `--fit` training images; held out are `--held` test images,
and the figures are of other test images and of `--ood` images of every set of outliers. `mobilenet`
is the ImageNet network on photographs, `digits` the demo's. What a network gave is kept as JSON in
`--records`, so that networks may be run one at a time and the page made of all of them.

Compared, by their AUROC on every set: the first of `gradood.choose`; always energy; always
mahalanobis++; one fixed fusion (energy + mahalanobis++, Fisher's); and, in hindsight, the single
detector that is best on that network, and on that set. No outlier has a part in the choice.
"""

import argparse
import importlib
import json
import os
import sys
import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from gradood import metrics
from gradood._engine.scoring import score_shards
from gradood._io.markdown import table
from gradood.bench._demo import load_digits, train
from gradood.bench._trial import Candidates, Trial, chunks
from gradood.bench.choice import CANDIDATES, COMBINATIONS, fusions, ranked
from gradood.data import loader, open_images
from gradood.errors import GradoodWarning
from gradood.models._load import load_subject
from gradood.registry import create

SHARED = Path(os.environ.get("GRADOOD_SHARED", "../shared"))
DESIGN = ("resnet20", "resnet56", "densenet101")
"""Networks whose outliers were looked at while the rule was made."""
FIXED = "energy + mahalanobis++"
OUTLIERS = {
    "svhn": "svhn_test",
    "textures": "textures10_test",
    "cifar100": "cifar100_test",
    "tinyimagenet": "tinyimagenet_val",
    "mnist": "mnist_test",
}
INTRODUCTION = """\
`gradood.choose` ranks detectors and combinations for one model by how well they tell held-out
in-distribution samples from synthetic outliers made of them. This page says how much of the best
single detector's AUROC that keeps on real outliers, beside rules that look at nothing. The rule
(the kinds, the mean of 1 − √(1 − AUROC), Fisher's combination, the candidates, a combination first
unless a single detector beats it beyond chance) was made on
{names}, whose real outliers were looked at meanwhile: only the
networks under “Confirmation” say how good it is."""
NOTES = """\
“Kept” is the mean over sets of the AUROC relative to that of the network's best single detector,
known in hindsight only. Intervals are of the mean difference over resamples of networks and, within
each, of its sets: with few networks they are wide, and say nothing of kinds of network that are
absent.

“Sure”: resamples in which it has the highest score; “stable”: kinds that may be left out, one at a
time, with it still within a point of the highest; “rank correlation”: of all methods, between the
score that the ranking goes by and the mean AUROC on the real sets.

Made with `python benchmarks/choose.py`; what each network gave is in the JSON files beside it."""
RULES = {"chosen": "the choice", "energy": "always energy", "mahalanobis++": "always mahalanobis++"}
RULES |= {FIXED: "fixed fusion"}


@dataclass(frozen=True)
class Data:
    """A network and its samples, in memory.

    Attributes:
        model: in evaluation mode.
        fit: batches (x, y) to fit on.
        held: (n, …) in-distribution samples that the network has not seen.
        test: (m, …) others, for the figures.
        outliers: set → (k, …).
    """

    model: nn.Module
    fit: Sequence[tuple[Tensor, Tensor]]
    held: Tensor
    test: Tensor
    outliers: Mapping[str, Tensor]


def images(path: Path, preprocess: Any, rows: slice | int) -> tuple[Tensor, Tensor | None]:
    """Some images of a file: the first so many, or those of a slice."""
    data = open_images(str(path), preprocess)[rows if isinstance(rows, slice) else slice(rows)]
    parts = [b[0] if data.labeled else b for b in loader(data, batch_size=64)]
    return torch.cat(parts), data.labels


def stated_preprocessing(spec: str) -> Mapping[str, Any] | None:
    """What the module of ``module:factory`` says of its inputs, as `PREPROCESS`."""
    module, colon, _ = spec.partition(":")
    return getattr(importlib.import_module(module), "PREPROCESS", None) if colon else None


def cifar(spec: str, weights: Path, sizes: argparse.Namespace) -> Data:
    """A network of CIFAR-10."""
    subject = load_subject(spec, weights, preprocess=stated_preprocessing(spec))
    prepare, folder = subject.preprocess, SHARED / "data"
    x, y = images(folder / "cifar10_train_a.parquet", prepare, sizes.fit)
    test = folder / "cifar10_test.parquet"
    assert y is not None
    return Data(
        subject.model.eval(),
        list(zip(x.split(64), y.split(64), strict=True)),
        images(test, prepare, sizes.held)[0],
        images(test, prepare, slice(3000, 3000 + sizes.test))[0],
        {n: images(folder / f"{f}.parquet", prepare, sizes.ood)[0] for n, f in OUTLIERS.items()},
    )


def photographs(spec: str, weights: Path, sizes: argparse.Namespace) -> Data:
    """The ImageNet network on photographs of 30 of its classes."""
    subject = load_subject(spec, weights, preprocess=stated_preprocessing(spec))
    folder, prepare = SHARED / "photos", subject.preprocess
    x, y = images(folder / "id_caltech.parquet", prepare, slice(None))
    assert y is not None
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))
    x, y = x[order], y[order]
    half, held = len(x) // 2, min(sizes.held, 120)
    fit = slice(0, min(sizes.fit, half - held))
    return Data(
        subject.model.eval(),
        list(zip(x[fit].split(32), y[fit].split(32), strict=True)),
        x[half - held : half],
        x[half : half + sizes.test],
        {
            name: images(folder / f"{name}.parquet", prepare, sizes.ood)[0]
            for name in ("ood_caltech", "ood_scenes")
        },
    )


def digits(sizes: argparse.Namespace) -> Data:
    """The demo's network of eight digits."""
    data = load_digits()
    x, y = data.train_x[: sizes.fit], data.train_y[: sizes.fit]
    half = len(data.test_x) // 2
    return Data(
        train(data, epochs=12).eval(),
        list(zip(x.split(64), y.split(64), strict=True)),
        data.test_x[:half][: sizes.held],
        data.test_x[half:][: sizes.test],
        {name: x[: sizes.ood] for name, x in data.ood.items()},
    )


def measured(label: str, data: Data) -> dict[str, Any]:
    """The record of one network: ranking, and AUROC of every method on every set."""
    clock = time.perf_counter()
    candidates = Candidates(data.model, {name: create(name) for name in CANDIDATES})
    trial = Trial.of(candidates, data.fit, data.held, limit=len(data.held))
    ranking = ranked(trial)
    combined = fusions(trial.known.scores, COMBINATIONS)
    found: dict[str, dict[str, Tensor]] = {}
    for name, x in {"id": data.test, **data.outliers}.items():
        batch, _ = score_shards(trial.detectors, [chunks(x, 64)], what=name)
        fused = {name: fusion.statistic(batch.scores) for name, fusion in combined.items()}
        found[name] = {**batch.scores, **fused}
    areas = {
        method: {
            name: metrics.auroc(found["id"][method], scores[method])
            for name, scores in found.items()
            if name != "id"
        }
        for method in found["id"]
    }
    plain = ranking.to_dict()
    return {
        "network": label,
        "design": label in DESIGN,
        "sizes": {"fit": trial.fitted, "held": len(data.held), "test": len(data.test)},
        "chosen": ranking.best.name,
        "sure": ranking.sure,
        "stable": ranking.stable,
        "scores": {row["name"]: row["score"] for row in plain["rows"]},
        "left_out": plain["left_out"],
        "auroc": areas,
        "seconds": round(time.perf_counter() - clock, 1),
    }


def singles(record: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    """AUROC of the single detectors by set."""
    return {name: own for name, own in record["auroc"].items() if " + " not in name}


def blocks(records: Sequence[Mapping[str, Any]]) -> dict[str, np.ndarray]:
    """By rule its AUROC on every set of every network; and in hindsight."""
    rows: dict[str, list[float]] = {}
    for record in records:
        own = singles(record)
        best = max(own, key=lambda name: float(np.mean([*own[name].values()])))
        for name in next(iter(own.values())):
            for rule in RULES:
                method = record["chosen"] if rule == "chosen" else rule
                rows.setdefault(rule, []).append(record["auroc"][method][name])
            rows.setdefault("best of the network", []).append(own[best][name])
            rows.setdefault("best of the set", []).append(max(a[name] for a in own.values()))
    return {rule: np.array(values) for rule, values in rows.items()}


def paired(difference: np.ndarray, networks: np.ndarray, draws: int = 4000) -> tuple[float, float]:
    """95 % of the mean difference over resamples of the networks and, within each, of its sets."""
    rng = np.random.default_rng(0)
    by_network = [difference[networks == one] for one in np.unique(networks)]
    means = []
    for _ in range(draws):
        chosen = [by_network[i] for i in rng.integers(0, len(by_network), len(by_network))]
        means.append(np.mean([rng.choice(own, len(own)).mean() for own in chosen]))
    low, high = np.percentile(means, [2.5, 97.5])
    return float(low), float(high)


def summary_lines(records: Sequence[Mapping[str, Any]]) -> list[str]:
    """The table of rules over some networks, with the paired differences to the choice."""
    values = blocks(records)
    networks = np.array([i for i, r in enumerate(records) for _ in next(iter(r["auroc"].values()))])
    best = values["best of the network"]
    rows = []
    for rule, own in values.items():
        gain = values["chosen"] - own
        low, high = paired(gain, networks)
        shown = "" if rule == "chosen" else f"{100 * gain.mean():+.2f}"
        between = "" if rule == "chosen" else f"{100 * low:+.2f} to {100 * high:+.2f}"
        kept = (own / best).mean()
        rows.append(
            [
                RULES.get(rule, f"{rule}, in hindsight"),
                f"{100 * own.mean():.2f}",
                f"{100 * own.min():.2f}",
                f"{100 * kept:.1f}",
                shown,
                between,
            ]
        )
    head = ["rule", "mean AUROC", "least", "kept in %", "choice − rule", "95 %"]
    return [table(head, rows), ""]


def page(records: Sequence[Mapping[str, Any]], figure: str) -> str:
    """The page."""
    design = [record for record in records if record["design"]]
    others = [record for record in records if not record["design"]]
    names = ", ".join(record["network"] for record in design)
    lines = [
        "<!-- Made by benchmarks/choose.py. -->",
        "",
        "# The choice without outliers",
        "",
        INTRODUCTION.format(names=names),
        "",
        *verdict(records),
        f"![AUROC of the rules by network]({figure})",
        "",
    ]
    parts = ("Confirmation: networks not used to make the rule", others), ("Design", design)
    for title, part in parts:
        if part:
            lines += [f"## {title}", "", *summary_lines(part), *network_lines(part)]
    lines += [NOTES, ""]
    return "\n".join(lines)


def verdict(records: Sequence[Mapping[str, Any]]) -> list[str]:
    """Whether the choice beats the rules that look at nothing, where that counts."""
    others = [record for record in records if not record["design"]]
    lines = []
    if not others:
        lines = [
            "**Not confirmed yet**: no network that the rule was not made on has been run. Until",
            "one is, nothing is claimed beyond the networks that it was made on.",
            "",
        ]
    part = others or records
    which = f"{len(part)} networks {'not used to make it' if others else 'that it was made on'}"
    for rule in ("mahalanobis++", FIXED):
        values = blocks(part)
        counts = [len(next(iter(record["auroc"].values()))) for record in part]
        gain = values["chosen"] - values[rule]
        low, high = paired(gain, np.repeat(np.arange(len(part)), counts))
        won = "is ahead of" if low > 0 else "**is not ahead of**"
        lines += [
            f"On {which} ({len(gain)} sets) the choice {won} {RULES[rule]} (`{rule}`):",
            f"{100 * gain.mean():+.2f} points of AUROC (95 %: {100 * low:+.2f} to "
            f"{100 * high:+.2f}).",
            "",
        ]
    return lines


def network_lines(records: Sequence[Mapping[str, Any]]) -> list[str]:
    """What was chosen on each network, and what it gave."""
    rows = []
    for record in records:
        own, areas = singles(record), record["auroc"]
        means = {name: float(np.mean([*a.values()])) for name, a in areas.items()}
        best = max(own, key=lambda name: means[name])
        order = [list(record["scores"].values()), [means[name] for name in record["scores"]]]
        ranks = [np.argsort(np.argsort(one)) for one in order]
        rows.append(
            [
                record["network"],
                " / ".join(str(size) for size in record["sizes"].values()),
                f"`{record['chosen']}`",
                f"{100 * record['sure']:.0f} / {100 * record['stable']:.0f}",
                f"{100 * means[record['chosen']]:.2f}",
                f"`{best}`",
                f"{100 * means[best]:.2f}",
                f"{100 * means['energy']:.2f}",
                f"{100 * means['mahalanobis++']:.2f}",
                f"{100 * means[FIXED]:.2f}",
                f"{np.corrcoef(*ranks)[0, 1]:.2f}",
            ]
        )
    head = [
        "network",
        "images fit / held / test",
        "chosen",
        "sure / stable in %",
        "AUROC",
        "best single",
        "AUROC",
    ]
    head += ["energy", "mahalanobis++", "fixed fusion", "rank correlation"]
    return [table(head, rows), ""]


def draw(records: Sequence[Mapping[str, Any]], file: Path) -> None:
    """Score by synthetic outliers against AUROC on real ones, a panel per network."""
    import matplotlib

    matplotlib.use("Agg")
    matplotlib.rcParams["svg.hashsalt"] = "gradood"
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(
        1, len(records), figsize=(3.2 * len(records), 3.2), squeeze=False, layout="constrained"
    )
    for axis, record in zip(axes[0], records, strict=True):
        means = {n: 100 * float(np.mean([*a.values()])) for n, a in record["auroc"].items()}
        for name, score in record["scores"].items():
            fused = " + " in name
            axis.scatter(100 * score, means[name], s=14, c="#c44" if fused else "#888", lw=0)
        for name, mark in ((record["chosen"], "*"), ("energy", "v"), ("mahalanobis++", "D")):
            place = 100 * record["scores"][name], means[name]
            axis.scatter(*place, marker=mark, s=60, facecolor="none", edgecolor="k", label=name)
        axis.set(title=record["network"], xlabel="score by synthetic outliers")
        axis.legend(fontsize=6, loc="lower right")
    axes[0][0].set_ylabel("mean AUROC on real outliers in %")
    figure.savefig(file, metadata={"Date": None})


def arguments(argv: Sequence[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    labels = ", ".join([*DESIGN, "mobilenet", "digits"])
    parser.add_argument("--networks", default="", help=f"of {labels}")
    parser.add_argument("--network", action="append", default=[], help="LABEL=SPEC@WEIGHTS")
    parser.add_argument(
        "--mobilenet",
        default="benchmarks.photo_network:mobilenet_v2",
        help="model spec of mobilenet",
    )
    parser.add_argument("--records", type=Path, default=Path("docs/results/choose"))
    parser.add_argument("--write", type=Path)
    for name, size in (("fit", 1500), ("held", 200), ("test", 500), ("ood", 200)):
        parser.add_argument(f"--{name}", type=int, default=size)
    return parser.parse_args(argv)


def opened(label: str, options: argparse.Namespace) -> Data:
    """A network by the label of ``--networks``."""
    if label == "digits":
        return digits(options)
    if label == "mobilenet":
        weights = SHARED / "photos" / "mobilenet_v2_imagenet.safetensors"
        return photographs(options.mobilenet, weights, options)
    return cifar(label, SHARED / "weights" / f"{label}_cifar10.safetensors", options)


def main(argv: Sequence[str]) -> None:
    """Run the networks that are asked for, then write the page of all records."""
    options = arguments(argv)
    options.records.mkdir(parents=True, exist_ok=True)
    warnings.simplefilter("ignore", GradoodWarning)
    for label in filter(None, options.networks.split(",")):
        keep(measured(label, opened(label, options)), options.records)
    for text in options.network:
        label, _, rest = text.partition("=")
        spec, _, weights = rest.rpartition("@")
        keep(measured(label, cifar(spec, Path(weights), options)), options.records)
    records = [json.loads(f.read_text()) for f in sorted(options.records.glob("*.json"))]
    records.sort(key=lambda r: (not r["design"], r["network"]))
    if records and options.write:
        figure = options.write.with_suffix(".svg")
        draw(records, figure)
        options.write.write_text(page(records, figure.name), encoding="utf-8")
    for record in records:
        print(f"{record['network']}: {record['chosen']}, {record['seconds']} s")
    if records:
        print("\n".join(summary_lines(records)))


def keep(record: Mapping[str, Any], folder: Path) -> None:
    """Write the record of a network."""
    text = json.dumps(record, indent=1) + "\n"
    (folder / f"{record['network']}.json").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
