"""The pictures of README and docs, from real images and networks.

    python docs/pictures.py [--only NAME] [--names FILE]

Needs the images and networks of ../shared (GRADOOD_SHARED). `--names` is a list of ImageNet's
classes, one a line, for the labels that the network gives. Which images are shown is decided by
the seed or by quantiles of p-values: none was picked by eye.
"""

import argparse
import io
import os
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pyarrow.parquet as pq
import torch
from PIL import Image, ImageOps

import gradood
from gradood.data import Preprocess, loader, open_images
from gradood.models import load_weights, resnet20

ROOT = Path(__file__).resolve().parent.parent
OUT = Path(__file__).resolve().parent / "pictures"
SHARED = Path(os.environ.get("GRADOOD_SHARED", ROOT.parent / "shared"))
SEED = 0
LIMIT = 100_000
"""Bytes of a picture."""

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
CIFAR = ["airplane", "car", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
INK, KNOWN, UNKNOWN, PAPER = "#24292f", "#1a7f37", "#cf222e", "#ffffff"
matplotlib.rcParams |= {"svg.hashsalt": "gradood", "svg.fonttype": "path", "font.size": 10}
matplotlib.rcParams |= {"text.color": INK, "axes.edgecolor": "#8c959f", "figure.facecolor": PAPER}


def main() -> int:
    """Make the pictures, and say their sizes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=sorted(PICTURES), action="append")
    parser.add_argument("--names", type=Path)
    given = parser.parse_args()
    names = given.names.read_text(encoding="utf-8").splitlines() if given.names else []
    OUT.mkdir(exist_ok=True)
    for name, draw in PICTURES.items():
        if given.only is None or name in given.only:
            file = draw(names)
            print(f"{file.relative_to(ROOT)}: {file.stat().st_size:,} bytes")
            if file.stat().st_size > LIMIT:
                return 1
    return 0


def photographs(names: list[str]) -> Path:
    """Photographs of classes that ImageNet lacks, which MobileNet-V2 finds hard to tell."""
    model, preprocess = photo_network()
    folder = SHARED / "photos"
    order = torch.randperm(990, generator=torch.Generator().manual_seed(SEED)).tolist()
    known, _ = batch(folder / "id_caltech.parquet", order[:495], preprocess)
    guard = gradood.guard(model, known.split(64))
    rows = []
    for file, among in (("id_caltech", order[495:]), ("ood_caltech", None)):
        table = pq.read_table(folder / f"{file}.parquet")
        chosen = spread(table["name"].to_pylist(), 6, among)
        images, photos = batch(folder / f"{file}.parquet", chosen, preprocess)
        rows.append((photos, guard.predict(images)))
    return saved(decided(rows, names or [f"class {i}" for i in range(1000)]), "photographs.webp")


def why(names: list[str]) -> Path:
    """Where the scores of photographs come from, and the known ones that are nearest to them.

    Two known photographs with a patch of a scene, at a place that the seed chose, and three of
    classes that ImageNet lacks: of 24 drawn by the seed those with the smallest p-values.
    """
    model, preprocess = photo_network()
    folder = SHARED / "photos"
    order = torch.randperm(990, generator=torch.Generator().manual_seed(SEED)).tolist()
    rows, new = order[:200], order[400:402]
    known, shown = batch(folder / "id_caltech.parquet", rows, preprocess)
    guard = gradood.guard(model, known.split(64), ids=rows)
    patched, photos = planted(*batch(folder / "id_caltech.parquet", new, preprocess))
    table = pq.read_table(folder / "ood_caltech.parquet")
    chosen = spread(table["name"].to_pylist(), 24, None)
    unknown, others = batch(folder / "ood_caltech.parquet", chosen, preprocess)
    first = guard.predict(unknown).p_value.argsort(stable=True)[:3].tolist()
    inputs = torch.cat([patched, unknown[first]])
    photos = [*photos, *(others[i] for i in first)]
    found = gradood.region_map(guard, inputs)
    figure, axes = plt.subplots(3, len(photos), figsize=(9, 6.4))
    for column, reasons in enumerate(guard.explain(inputs, neighbors=1)):
        assert reasons.neighbors
        near = reasons.neighbors[0]
        axes[0, column].imshow(photos[column])
        gradood.plots.plot_regions(found, inputs, row=column, ax=axes[1, column])
        axes[2, column].imshow(shown[rows.index(int(near.id))])
        p_value = reasons.p_values.get("combined", min(reasons.p_values.values()))
        verdict = "unknown" if reasons.is_ood else "known"
        label = names[reasons.label] if names else f"class {reasons.label}"
        color = UNKNOWN if reasons.is_ood else KNOWN
        text = f"“{label}”\np = {p_value:.3f}, {verdict}"
        axes[0, column].set_title(text, fontsize=9, color=color)
    for line, name in enumerate(("photograph", "where the score\ncomes from", "nearest known")):
        axes[line, 0].set_ylabel(name, fontsize=10)
    for ax in axes.flat:
        ax.set(xticks=[], yticks=[])
        ax.axis("on")
    figure.subplots_adjust(left=0.06, right=0.99, top=0.92, bottom=0.01, wspace=0.04, hspace=0.05)
    return saved(figure, "why.webp")


def planted(images: torch.Tensor, photos: list[Any]) -> tuple[torch.Tensor, list[Any]]:
    """A ninth of each image is taken from a scene, at a place that the seed chose."""
    _, preprocess = photo_network()
    scenes, views = batch(SHARED / "photos" / "ood_scenes.parquet", [0, 1], preprocess)
    out, size = images.clone(), images.shape[-1]
    side = round(size / 3)
    places = torch.randint(size - side, (2, 2), generator=torch.Generator().manual_seed(SEED))
    for row, (top, left) in enumerate(places.tolist()):
        out[row, :, top : top + side, left : left + side] = scenes[row, :, :side, :side]
        photos[row].paste(views[row].crop((0, 0, side, side)), (left, top))
    return out, photos


@cache
def photo_network() -> tuple[torch.nn.Module, dict[str, Any]]:
    """MobileNet-V2, and how its inputs are made."""
    sys.path.insert(0, str(ROOT))
    from benchmarks.photo_network import PREPROCESS, mobilenet_v2

    weights = SHARED / "photos" / "mobilenet_v2_imagenet.safetensors"
    return load_weights(mobilenet_v2(), str(weights)).float(), PREPROCESS


def decision(names: list[str]) -> Path:
    """Images that ResNet-20 was not trained on, of its ten classes and of four other sets.

    Of 100 of each set those whose p-values are evenly spread over the set's: typical ones, and none
    picked by eye.
    """
    model, opened = cifar()
    guard = gradood.guard(model, opened("cifar10_test.parquet[:600]"))
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (MEAN, STD))
    rows = []
    sets = ("cifar100_test", "svhn_test", "textures10_test", "mnist_test")
    for parts, each in ((("cifar10_test",), 8), (sets, 2)):
        chosen = []
        for part in parts:
            images = torch.cat([batch[0] for batch in opened(f"{part}.parquet[1000:1100]")])
            order = guard.predict(images).p_value.argsort(stable=True)
            places = [int((i + 0.5) / each * len(order)) for i in range(each)]
            chosen.append(images[order[places]])
        images = torch.cat(chosen)
        photos = [(x * std + mean).clamp(0, 1).permute(1, 2, 0).numpy() for x in images]
        rows.append((photos, guard.predict(images)))
    return saved(decided(rows, list(CIFAR)), "decision.webp")


def decided(rows: list[tuple[list[Any], Any]], names: list[str]) -> Any:
    """Two rows of images with the label, its probability, the p-value and the decision."""
    columns = len(rows[0][0])
    figure, axes = plt.subplots(2, columns, figsize=(9, 18 / columns + 2.1))
    for line, (photos, results) in enumerate(rows):
        top = torch.softmax(results.logits, 1).max(1)
        for column, photo in enumerate(photos):
            ax, out = axes[line, column], bool(results.is_ood[column])
            ax.imshow(photo, interpolation="bicubic")
            says = f"“{names[int(top.indices[column])]}”, {100 * top.values[column]:.0f} %"
            verdict = "unknown" if out else "known"
            ax.set_xlabel(f"{says}\np = {results.p_value[column]:.3f}\n{verdict}", fontsize=10)
            ax.xaxis.label.set_color(UNKNOWN if out else KNOWN)
            ax.set(xticks=[], yticks=[])
            for spine in ax.spines.values():
                spine.set(color=UNKNOWN if out else KNOWN, linewidth=3)
    heads = (
        "New images of what the network has classes for",
        "Images of what it has no class for",
    )
    figure.subplots_adjust(left=0.01, right=0.99, top=0.93, bottom=0.13, wspace=0.08, hspace=0.55)
    for line, head in enumerate(heads):
        place = axes[line, 0].get_position()
        figure.text(place.x0, place.y1 + 0.025, head, fontsize=11, weight="bold")
    return figure


def histogram(names: list[str]) -> Path:
    """The scores of known and unknown images, and the threshold."""
    monitor, results = scores()
    threshold = monitor.summary().detectors[0].threshold
    figure, ax = plt.subplots(figsize=(8, 3.6), layout="constrained")
    known, *unknown = results
    gradood.plots.plot_scores(
        results[known], {n: results[n] for n in unknown}, threshold=threshold, ax=ax
    )
    return saved(figure, "histogram.svg")


def promise(names: list[str]) -> Path:
    """The share that is flagged at every rate that could have been promised."""
    _, results = scores()
    figure, ax = plt.subplots(figsize=(5.6, 4.6), layout="constrained")
    gradood.plots.plot_curve(results, ax=ax)
    return saved(figure, "promise.svg")


def spread(names: list[str], count: int, among: list[int] | None) -> list[int]:
    """Rows of so many classes, drawn by the seed; none of people."""
    drawn = np.random.default_rng(SEED).permutation(len(names)) if among is None else among
    found: dict[str, int] = {}
    for row in drawn:
        kind = names[row].split("/")[1]
        if "Faces" not in kind:
            found.setdefault(kind, int(row))
    return list(found.values())[:count]


def batch(file: Path, rows: list[int], options: dict[str, Any]) -> tuple[torch.Tensor, list[Any]]:
    """Inputs (n, 3, height, width), and square photographs to look at."""
    encoded = pq.read_table(file)["image"].take(rows).to_pylist()
    apply = Preprocess(**options)
    photos = [Image.open(io.BytesIO(e["bytes"])).convert("RGB") for e in encoded]
    inputs = torch.stack([apply(photo) for photo in photos])
    return inputs, [ImageOps.fit(photo, (224, 224)) for photo in photos]


def cifar() -> tuple[torch.nn.Module, Callable[[str], Any]]:
    """ResNet-20, and what opens a set for it."""
    how = Preprocess(resize=(32, 32), mean=MEAN, std=STD)
    model = load_weights(resnet20(), str(SHARED / "weights" / "resnet20_cifar10.safetensors"))
    return model, lambda name: loader(open_images(f"{SHARED}/data/{name}", how))


@cache
def scores() -> tuple[gradood.Monitor[Any], dict[str, Any]]:
    """A calibrated monitor of ResNet-20, and its results of four sets."""
    model, opened = cifar()
    monitor = gradood.Monitor(model, gradood.MahalanobisPlusPlus())
    monitor.fit(opened("cifar10_train_a.parquet[:2000]"))
    monitor.calibrate(opened("cifar10_test.parquet[:500]"), fpr=0.05)
    sets = {"new known images (CIFAR-10)": "cifar10_test.parquet[1000:1500]"}
    sets |= {
        "near: CIFAR-100": "cifar100_test.parquet[:500]",
        "far: house numbers": "svhn_test.parquet[:500]",
    }
    sets |= {"far: textures": "textures10_test.parquet[:500]"}
    return monitor, {name: monitor.predict(opened(part)) for name, part in sets.items()}


def saved(figure: Any, name: str) -> Path:
    """The picture in its file: WebP of photographs, SVG of lines; without a date in it."""
    file = OUT / name
    if file.suffix == ".svg":
        figure.savefig(file, metadata={"Date": None, "Creator": None})
    else:
        data = io.BytesIO()
        figure.savefig(data, format="png", dpi=130)
        Image.open(data).convert("RGB").save(file, quality=80, method=6)
    plt.close(figure)
    return file


PICTURES: dict[str, Callable[[list[str]], Path]] = {
    "decision": decision,
    "histogram": histogram,
    "photographs": photographs,
    "promise": promise,
    "why": why,
}

if __name__ == "__main__":
    sys.exit(main())
