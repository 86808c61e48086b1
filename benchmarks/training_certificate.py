"""How flat the energy is around its samples, before and after training, and what that certifies.

    python benchmarks/training_certificate.py --work FOLDER --seed 0 --count 400 \
        --out docs/results/training-certificate.md

Takes the networks that `training_run.py` left in the work folder. Known samples are CIFAR-10 test
images, outliers the part of `tinyimagenet_aux` that was held out of training; SVHN's show how far
it carries. Distances are Euclidean, in units of the normalized input, as in the penalty. Each
certified radius is put to the test by an attack of that size. The plot needs ``gradood[report]``.
"""

import argparse
import statistics
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from training_run import images, preprocess, start, training_data, write

from gradood import models
from gradood.bench.folder import provenance
from gradood.training import TrainingData, load_recipe
from gradood.training._robustness import (
    Attack,
    certified_radius,
    energies,
    fpr_under,
    gradient_norms,
    perturbed,
)
from gradood.training.data import DataSplit

RADII = (0.0, 0.02, 0.05, 0.1, 0.2)
KINDS = ("random", "adversarial")
SETS = {"aux": "held-out auxiliary images", "svhn": "SVHN"}


@dataclass(frozen=True, eq=False)
class Samples:
    """What the networks are measured on.

    Attributes:
        known: CIFAR-10 test images.
        labels: of these.
        aux: held-out auxiliary images.
        svhn: SVHN test images.
    """

    known: Tensor
    labels: Tensor
    aux: Tensor
    svhn: Tensor


def samples(seed: int, count: int, run: Path, data: TrainingData) -> Samples:
    """Those of one seed; what was held out depends on it."""
    recipe = load_recipe(run / "recipe.json")
    assert recipe.seed == seed
    held = DataSplit(data, recipe).held.aux
    assert held is not None
    test = images("cifar10_test", labeled=True, limit=count)
    svhn = images("svhn_test", labeled=False, limit=count)
    assert test.labels is not None
    pairs: list[Any] = [test[i] for i in range(len(test))]
    others: list[Any] = [svhn[i] for i in range(len(svhn))]
    return Samples(
        known=torch.stack([image for image, _ in pairs]),
        labels=test.labels,
        aux=torch.stack([held.item(i)[0] for i in range(min(count, len(held)))]),
        svhn=torch.stack(others),
    )


def measured(model: nn.Module, given: Samples, radius: float) -> dict[str, Any]:
    """All numbers of one network."""
    known, aux = energies(model, given.known), energies(model, given.aux)
    threshold = float(known.quantile(0.95, interpolation="higher"))
    inside, outside = known <= threshold, aux > threshold
    found: dict[str, Any] = {
        "threshold": threshold,
        "norm_id": float(gradient_norms(model, given.known[inside]).mean()),
        "norm_aux": float(gradient_norms(model, given.aux[outside]).mean()),
        "right": (float(inside.double().mean()), float(outside.double().mean())),
    }
    for name, x, is_known in (("id", given.known, True), ("aux", given.aux, False)):
        certificate = certified_radius(model, x, threshold=threshold, radius=radius, known=is_known)
        right = inside if is_known else outside
        found[f"radius_{name}"] = float(certificate.radius[right].mean())
        found[f"certified_{name}"] = float((certificate.radius >= radius).double().mean())
        found[f"lipschitz_{name}"] = float(certificate.lipschitz[right].mean())
        moved = perturbed(model, x, radius=certificate.radius, rise=is_known, attack=Attack())
        turned = (energies(model, moved) <= threshold) != is_known
        found[f"turned_{name}"] = float(turned[right].double().mean())
    for set_name, outliers in (("aux", given.aux), ("svhn", given.svhn)):
        for kind in KINDS:
            found[f"{set_name}/{kind}"] = [
                fpr_under(model, given.known, outliers, radius=r, attack=Attack(kind=kind))
                for r in RADII
            ]
    return found


def page(results: dict[str, dict[str, Any]], radius: float, command: str, count: int) -> str:
    """The tables in Markdown."""
    made = provenance()
    lines = [
        "# Stability of the energy before and after training",
        "",
        *_method(radius, count),
        "",
        "| network | right, ID / aux | ‖∇E‖ ID | ‖∇E‖ aux | L ID | L aux | ε* ID | ε* aux | "
        f"ε* = {radius}, ID / aux | turned at ε*, ID / aux |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for name, r in results.items():
        keys = ("norm_id", "norm_aux", "lipschitz_id", "lipschitz_aux", "radius_id", "radius_aux")
        shares = [
            " / ".join(f"{100 * value:.1f} %" for value in pair)
            for pair in (
                r["right"],
                (r["certified_id"], r["certified_aux"]),
                (r["turned_id"], r["turned_aux"]),
            )
        ]
        numbers = " | ".join(f"{r[k]:.3f}" for k in keys)
        lines.append(f"| {name} | {shares[0]} | {numbers} | {shares[1]} | {shares[2]} |")
    for set_name, title in SETS.items():
        lines += [
            "",
            f"FPR95 on {title} in percent, when every sample moves by ε at random / by an attack "
            "that raises the energy of known images and lowers that of outliers:",
            "",
            f"| network | {' | '.join(f'ε = {r}' for r in RADII)} |",
            f"| --- |{' ---: |' * len(RADII)}",
        ]
        for name, r in results.items():
            pairs = zip(r[f"{set_name}/random"], r[f"{set_name}/adversarial"], strict=True)
            cells = " | ".join(f"{100 * a:.1f} / {100 * b:.1f}" for a, b in pairs)
            lines.append(f"| {name} | {cells} |")
    lines += [
        "",
        "Made with",
        "",
        f"    {command}",
        "",
        f"{made['date']}, commit {made['commit']}.",
    ]
    return "\n".join([*lines, ""])


def _method(radius: float, count: int) -> list[str]:
    """What the numbers are."""
    std = preprocess().std
    assert std is not None
    pixels = statistics.mean(std)
    return [
        f"ResNet-20, {count} CIFAR-10 test images and as many held-out auxiliary images.",
        "Distances are Euclidean over the whole normalized input, as in the penalty: 0.1 of it is",
        f"about {0.1 * pixels:.3f} where pixels go from 0 to 1, {25.5 * pixels:.1f} where to 255.",
        "γ keeps 95 % of the known images. Gradient norms, L and ε* are means over the samples",
        "that γ decides rightly, which differ by network; the first column has their share.",
        "",
        f"ε* = min({radius}, |γ − S| / L). L is the largest gradient norm found at the sample, at",
        "4 random points on the sphere of that radius, at 4 half-way, and where 4 adversarial",
        "paths end. It is the largest found and no bound: ε* is an estimate, as in the paper. The",
        "last column is the share of them whose decision an attack of 10 steps turns within ε*.",
        "",
        "FPR95 takes its threshold anew on the moved known images; an attack is of 10 steps.",
    ]


def plot(results: dict[str, dict[str, Any]], file: Path) -> None:
    """FPR95 against ε, one panel for each set."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot
    from matplotlib.lines import Line2D

    figure, panels = pyplot.subplots(1, 2, figsize=(9, 4), sharey=True)
    for panel, (set_name, title) in zip(panels, SETS.items(), strict=True):
        for i, r in enumerate(results.values()):
            for kind, style in zip(KINDS, (":", "-"), strict=True):
                values = [100 * v for v in r[f"{set_name}/{kind}"]]
                panel.plot(RADII, values, style, color=f"C{i}", marker=".")
        panel.set_title(title)
        panel.set_xticks(RADII, [f"{r:g}" for r in RADII])
        panel.set_ylim(0, 102)
        panel.grid(alpha=0.3)
        panel.set_xlabel("ε, Euclidean, in the normalized input")
    panels[0].set_ylabel("FPR95 by energy, %")
    keys = [Line2D([], [], color=f"C{i}", label=name) for i, name in enumerate(results)]
    keys.append(Line2D([], [], color="gray", label="attack"))
    keys.append(Line2D([], [], color="gray", linestyle=":", label="random"))
    figure.tight_layout(rect=(0, 0.09, 1, 1))
    figure.legend(handles=keys, loc="lower center", ncols=len(keys), frameon=False)
    figure.savefig(file)
    pyplot.close(figure)


def main() -> int:
    """Measure, print, and write if asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--count", type=int, default=400)
    parser.add_argument("--radius", type=float, default=0.2)
    parser.add_argument("--clean", action="store_true", help="as given to training_run.py")
    parser.add_argument("--train-limit", type=int, help="as given to training_run.py")
    parser.add_argument("--methods", default="small-energy,small-greg,small-greg-plus")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    names = given.methods.split(",")
    run = given.work / f"{names[0]}-{given.seed}"
    source = training_data(given.train_limit, clean=given.clean)
    data = samples(given.seed, given.count, run, source)
    results = {"start": measured(start().eval(), data, given.radius)}
    for name in names:
        weights = given.work / f"{name}-{given.seed}" / "model.safetensors"
        model = models.load_weights(start(), weights).eval()
        results[name.removeprefix("small-")] = measured(model, data, given.radius)
    command = " ".join(["python", "benchmarks/training_certificate.py", *sys.argv[1:]])
    text = page(results, given.radius, command, given.count)
    print(text)
    if given.out:
        picture = given.out.with_suffix(".svg")
        plot(results, picture)
        text += f"\n![FPR95 against ε]({picture.name})\n"
        write(given.out, text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
