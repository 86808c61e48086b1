"""Whether maps of a score point at a foreign patch, or at foreign words, planted in a known input.

    python benchmarks/pointing.py resnet20 --work FOLDER [--vit small_vit.safetensors] [--images 60]
    python benchmarks/pointing.py --work FOLDER --write docs/results/pointing.md

NETWORK is resnet20, densenet101, small_vit (of benchmarks/cifar_networks.py), mobilenet (of
photographs) or minilm (of texts). Patches of 1/16 and 1/9 of the area are cut from foreign images
and put at uniform places; a hit is a map whose largest value lies inside of the patch. Each
network's figures are kept in the work folder, from which --write makes the page.
With --design, the images and patches that the library's settings were chosen on are taken instead.
"""

import argparse
import io
import json
import math
import os
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor, nn

import gradood
from gradood.attribution._cuts import default_places
from gradood.attribution._grid import upsampled
from gradood.attribution._mapped_score import MappedScore, mapped_score
from gradood.attribution._passes import gradient_at, seen_at
from gradood.attribution._path import position_contributions
from gradood.attribution._pooled import pooled_place
from gradood.errors import GradoodError
from gradood.models import build
from gradood.taps import INPUT

SHARED = Path(os.environ.get("GRADOOD_SHARED", Path(__file__).parents[2] / "shared"))
SINGLES = ("energy", "knn", "mahalanobis++", "nci")
AREAS = (16, 9)
BATCH = 50
CIFAR = ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010))
STATISTICS = {
    "resnet20": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "densenet101": CIFAR,
    "small_vit": CIFAR,
    "mobilenet": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
}
Judge = gradood.Monitor[Any] | gradood.Guard


@dataclass(frozen=True)
class Study:
    """A network with its images, uint8 (n, 3, height, width).

    Attributes:
        name: of the network.
        model: in evaluation mode.
        fit: images to fit on, and their labels.
        known: held-out images to calibrate on.
        new: held-out images to plant patches in.
        foreign: sources of patches, each of as many images as are needed.
    """

    name: str
    model: nn.Module
    fit: tuple[Tensor, Tensor]
    known: Tensor
    new: Tensor
    foreign: tuple[Tensor, ...]

    def inputs(self, images: Tensor) -> Tensor:
        """Inputs of the network."""
        mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in STATISTICS[self.name])
        return (images.float() / 255 - mean) / std


def decoded(path: Path, rows: range, size: int) -> tuple[Tensor, Tensor]:
    """Images of some rows, the middle of each at `size`, and their labels."""
    table = pq.read_table(path).slice(rows.start, len(rows))
    images: list[np.ndarray] = []
    for record in table.column("image").to_pylist():
        image = Image.open(io.BytesIO(record["bytes"])).convert("RGB")
        if image.size != (size, size):
            scale = size * (8 / 7 if size > 32 else 1) / min(image.size)
            wide = (max(size, round(side * scale)) for side in image.size)
            image = image.resize(tuple(wide), Image.Resampling.BILINEAR)  # type: ignore[arg-type]
            left, top = ((side - size) // 2 for side in image.size)
            image = image.crop((left, top, left + size, top + size))
        images.append(np.asarray(image).transpose(2, 0, 1))
    labels = [-1 if label is None else label for label in table.column("label").to_pylist()]
    return torch.from_numpy(np.stack(images)), torch.tensor(labels)


def cifar_network(name: str, vit: Path) -> nn.Module:
    """A network of CIFAR-10 by name; `vit` are the weights of small_vit."""
    if name == "small_vit":
        from cifar_networks import small_vit

        model: nn.Module = small_vit()
        model.load_state_dict(load_file(vit))
    else:
        model = build(name)
        model.load_state_dict(load_file(SHARED / "weights" / f"{name}_cifar10.safetensors"))
    return model.eval()


def cifar_study(name: str, vit: Path, candidates: int, design: bool) -> Study:
    """A network of CIFAR-10; design takes other images and patches than the report."""
    folder = SHARED / "data"
    start, sources = 0, ["textures10_test", "svhn_test", "cifar10_test"]
    if design:
        start, sources = 5000, ["tinyimagenet_aux"]
    each = range(min(candidates, 1000))
    foreign = tuple(
        decoded(
            folder / f"{s}.parquet", range(2000, 2000 + len(each)) if "cifar" in s else each, 32
        )
        for s in sources
    )
    return Study(
        name,
        cifar_network(name, vit),
        decoded(folder / "cifar10_train_a.parquet", range(3000), 32),
        decoded(folder / "cifar10_test.parquet", range(3000, 4000), 32)[0],
        decoded(folder / "cifar10_test.parquet", range(start, start + candidates), 32)[0],
        tuple(images for images, _ in foreign),
    )


def photo_study(candidates: int, design: bool) -> Study:
    """MobileNet-V2 on photographs of classes that ImageNet has."""
    from photo_network import mobilenet_v2

    folder = SHARED / "photos"
    weights = load_file(folder / "mobilenet_v2_imagenet.safetensors")
    model = mobilenet_v2()
    model.load_state_dict({name: value.float() for name, value in weights.items()})
    known = folder / "id_caltech.parquet"
    start = 800 if design else 500
    new = range(start, min(start + candidates, 990 if design else 800))
    sources = ["ood_scenes", "ood_caltech"]
    first = 300 if design else 0
    return Study(
        "mobilenet",
        model.eval(),
        decoded(known, range(300), 224),
        decoded(known, range(300, 500), 224)[0],
        decoded(known, new, 224)[0],
        tuple(decoded(folder / f"{s}.parquet", range(first, first + 150), 224)[0] for s in sources),
    )


def planted(images: Tensor, foreign: tuple[Tensor, ...], area: int) -> tuple[Tensor, Tensor, int]:
    """Images with a patch each, (n, 2) its upper left corner, and its side."""
    generator = torch.Generator().manual_seed(area)
    size = images.shape[-1]
    side = round(size / math.sqrt(area))
    out, corners = images.clone(), []
    for i, image in enumerate(out):
        source = foreign[i % len(foreign)]
        top, left, y, x = torch.randint(0, size - side + 1, (4,), generator=generator).tolist()
        patch = source[i // len(foreign) % len(source), :, y : y + side, x : x + side]
        image[:, top : top + side, left : left + side] = patch
        corners.append((top, left))
    return out, torch.tensor(corners), side


def judges(study: Study, names: list[str]) -> dict[str, Judge]:
    """Monitors of single detectors, and the guard's default, all of the same data."""
    images, labels = study.fit
    fit = [
        (study.inputs(x), y) for x, y in zip(images.split(BATCH), labels.split(BATCH), strict=True)
    ]
    known = [study.inputs(x) for x in study.known.split(BATCH)]
    made: dict[str, Judge] = {}
    for name in names:
        if name == "guard":
            made[name] = gradood.guard(study.model, known, fit=fit, progress=False)
        else:
            monitor = gradood.Monitor(study.model, name, progress=False)
            made[name] = monitor.fit(fit).calibrate(known)
    return made


def flags(judge: Judge, study: Study, images: Tensor) -> Tensor:
    """Which images are flagged."""
    parts = [judge.predict(study.inputs(x)).is_ood for x in images.split(BATCH)]
    return torch.cat(parts)


# -- the maps -----------------------------------------------------------------------------------

Maps = Callable[[Tensor], Tensor]
"""From inputs (n, 3, height, width) to maps (n, height, width)."""


def maps_of(judge: Judge, study: Study) -> Iterator[tuple[str, Maps]]:
    """Every method, by name."""
    monitor = judge.monitor if isinstance(judge, gradood.Guard) else judge
    session = monitor._session
    bound = session.state.bound
    what = mapped_score(bound, session.state.rule, None)
    network = bound.binding.network

    def library(**options: Any) -> Maps:
        return lambda x: gradood.region_map(judge, x, **options).pixels

    known = study.inputs(study.fit[0][:300])
    yield "path (default)", library()
    yield "path from the mean alone", lambda x: whole_path(network, what, x)
    some = list(default_places(network, study.inputs(study.known[:1])))
    yield f"path at one layer, {some[len(some) // 2]}", library(layers=[some[len(some) // 2].layer])
    yield "channels", library(method="channels", known=known)
    yield "occlusion", library(method="occlusion")
    yield (
        "gradient of the input, its size",
        lambda x: gradient_at(network, x, what, INPUT, x).abs().sum(1),
    )
    yield "gradient × input", lambda x: (gradient_at(network, x, what, INPUT, x) * x).sum(1)
    yield "Grad-CAM at the last map", lambda x: grad_cam(network, what, x)
    yield "scores of the last map's positions", lambda x: position_scores(network, what, x)
    yield "known", library(method="known", known=known)


def grad_cam(network: Any, what: MappedScore, x: Tensor) -> Tensor:
    """Positive part of the map weighed by the mean gradient of each channel."""
    site, grid = pooled_place(network, x)
    tensor = seen_at(network, x, what, (site,)).seen[site]
    slope = grid.positions(gradient_at(network, x, what, site, tensor)).mean(1, keepdim=True)
    low = (grid.positions(tensor) * slope).sum(-1).clamp_min(0)
    return upsampled(grid.folded(low), (x.shape[2], x.shape[3]))


def position_scores(network: Any, what: MappedScore, x: Tensor) -> Tensor:
    """The score of an input that would look everywhere as this one does at each position."""
    site, grid = pooled_place(network, x)
    values = grid.positions(seen_at(network, x, what, (site,)).seen[site]).double().clamp_min(0)
    weight, bias = network.head.linear()
    rows = values.flatten(0, 1)
    with torch.no_grad():
        parts = [
            what.of_features(part, part @ weight.double().T + (0 if bias is None else bias))
            for part in rows.split(500)
        ]
    return upsampled(grid.folded(torch.cat(parts).reshape(values.shape[:2])), (x.shape[2],) * 2)


def whole_path(network: Any, what: MappedScore, x: Tensor) -> Tensor:
    """As the default, from activations that are mixed entirely."""
    total = torch.zeros(len(x), x.shape[2], x.shape[3], dtype=torch.float64)
    for place in default_places(network, x).items():
        low = position_contributions(network, x, what, place, 1.0).values
        total += upsampled(low, (x.shape[2], x.shape[3])) * place[1].size
    return total


# -- the study ----------------------------------------------------------------------------------


def hits(maps: Tensor, corners: Tensor, side: int) -> Tensor:
    """(n,) whether the largest value lies inside of the patch."""
    flat = maps.flatten(1).argmax(1)
    at = torch.stack([flat // maps.shape[2], flat % maps.shape[2]], 1)
    return ((at >= corners) & (at < corners + side)).all(1)


def pointing(study: Study, names: list[str], images: int, methods: str, file: Path) -> None:
    """Figures of one network, written after each row of them; those of other detectors stay."""
    rows: list[dict[str, Any]] = []
    if file.exists():
        rows = [r for r in json.loads(file.read_text())["rows"] if r["detector"] not in names]
    for name in names:
        judge = judges(study, [name])[name]
        before = flags(judge, study, study.new)
        for area in AREAS:
            patched, corners, side = planted(study.new, study.foreign, area)
            after = flags(judge, study, patched)
            groups = {
                "by patch": (after & ~before).nonzero()[:, 0][:images],
                "any": torch.arange(len(patched))[:images],
            }
            row = {"area": area, "detector": name, "chance": (side / patched.shape[-1]) ** 2}
            row |= {"flagged": float(after.double().mean())}
            row |= {"before": float(before.double().mean()), "methods": {}}
            row |= {group: len(places) for group, places in groups.items()}
            for method, maps in maps_of(judge, study):
                if methods and not any(method.startswith(m) for m in methods.split(",")):
                    continue
                found: dict[str, Any] = {}
                try:
                    for group, places in groups.items():
                        found[group] = sum(
                            int(hits(maps(study.inputs(patched[r])), corners[r], side).sum())
                            for r in places.split(20)
                            if len(r)
                        )
                except GradoodError as error:
                    found = {"refused": str(error)}
                row["methods"][method] = found
                print(study.name, area, name, method, found, flush=True)
            rows.append(row)
            file.write_text(json.dumps({"candidates": len(study.new), "rows": rows}) + "\n")


def text_study(names: list[str], images: int, file: Path) -> None:
    """Foreign words and questions planted in texts of CLINC150."""
    from any_networks import minilm

    model = minilm().eval()
    weights = load_file(SHARED / "text" / "minilm_clinc150.safetensors")
    model.load_state_dict({name: value.float() for name, value in weights.items()})
    table = pq.read_table(SHARED / "text" / "clinc150.parquet").to_pylist()
    rows = {
        (split, known): [
            r["ids"] for r in table if r["split"] == split and (r["label"] >= 0) == known
        ]
        for split, known in (("train", True), ("val", True), ("test", True), ("test", False))
    }
    labels = [r["label"] for r in table if r["split"] == "train" and r["label"] >= 0][:3000]
    fit = [
        {**batch_of(part), "labels": torch.tensor(labels[i * BATCH : (i + 1) * BATCH])}
        for i, part in enumerate(chunks(rows["train", True][:3000]))
    ]
    known = [batch_of(part) for part in chunks(rows["val", True][:1000])]
    record: dict[str, Any] = {"candidates": 1000, "rows": []}
    for kind in ("word", "question"):
        texts, spans = mixed_texts(rows["test", True][:1000], rows["test", False], kind)
        chance = float(np.mean([(b - a) / len(t) for t, (a, b) in zip(texts, spans, strict=True)]))
        for name in names:
            judge: Judge
            if name == "guard":
                judge = gradood.guard(model, known, fit=fit, progress=False)
            else:
                judge = gradood.Monitor(model, name, progress=False).fit(fit).calibrate(known)
            before = decided(judge, rows["test", True][:1000])
            after = decided(judge, texts)
            groups = {
                "by patch": (after & ~before).nonzero()[:, 0].tolist()[:images],
                "any": list(range(images)),
            }
            row = {"area": kind, "detector": name, "chance": chance, "methods": {}}
            row |= {
                "flagged": float(after.double().mean()),
                "before": float(before.double().mean()),
            }
            row |= {group: len(places) for group, places in groups.items()}
            for method, options in (
                ("path (default)", {}),
                ("channels", {"method": "channels", "known": fit[:10]}),
                ("occlusion", {"method": "occlusion"}),
                ("known", {"method": "known", "known": fit[:10]}),
            ):
                found = {}
                for group, places in groups.items():
                    found[group] = 0
                    for part in chunks(places):
                        peaks = gradood.region_map(
                            judge, batch_of([texts[i] for i in part]), **options
                        ).peak
                        found[group] += sum(
                            spans[i][0] <= p < spans[i][1]
                            for i, p in zip(part, peaks.tolist(), strict=True)
                        )
                row["methods"][method] = found
                print("minilm", kind, name, method, found, flush=True)
            record["rows"].append(row)
            file.write_text(json.dumps(record) + "\n")


def mixed_texts(
    texts: list[list[int]], foreign: list[list[int]], kind: str
) -> tuple[list[list[int]], list[tuple[int, int]]]:
    """Texts with a word (one token) or a whole question of others at a uniform place, and where."""
    random = np.random.default_rng(0)
    out, spans = [], []
    for i, ids in enumerate(texts):
        inner = foreign[i % len(foreign)][1:-1]
        if kind == "word":
            place = int(random.integers(len(inner)))
            inner = inner[place : place + 1]
        at = int(random.integers(1, len(ids)))
        out.append([*ids[:at], *inner, *ids[at:]])
        spans.append((at, at + len(inner)))
    return out, spans


def chunks(items: list[Any]) -> Iterator[list[Any]]:
    """Parts of at most 50."""
    return (items[i : i + BATCH] for i in range(0, len(items), BATCH))


def batch_of(texts: list[list[int]]) -> dict[str, Tensor]:
    """Ids and mask, padded to the longest."""
    length = max(map(len, texts))
    ids = torch.tensor([[*text, *[0] * (length - len(text))] for text in texts])
    return {"input_ids": ids, "attention_mask": (ids != 0).long()}


def decided(judge: Judge, texts: list[list[int]]) -> Tensor:
    """Which texts are flagged."""
    return torch.cat([judge.predict(batch_of(part)).is_ood for part in chunks(texts)])


def page(work: Path) -> str:
    """The figures of all networks in the work folder, in Markdown."""
    lines: list[str] = []
    for name in ("resnet20", "densenet101", "small_vit", "mobilenet", "minilm"):
        if not (work / f"{name}.json").exists():
            continue
        rows = json.loads((work / f"{name}.json").read_text())["rows"]
        lines += ["", f"## {name}"]
        for area in dict.fromkeys(row["area"] for row in rows):
            part = [row for row in rows if row["area"] == area]
            what = f"Patches of 1/{area} of the area" if isinstance(area, int) else f"A {area}"
            methods = list(dict.fromkeys(m for row in part for m in row["methods"]))
            lines += ["", f"### {what}; chance {100 * part[0]['chance']:.1f} %", ""]
            lines += ["| | " + " | ".join(row["detector"] for row in part) + " |"]
            lines += ["|---|" + "---:|" * len(part)]
            flagged = (f"{100 * r['before']:.0f} → {100 * r['flagged']:.0f} %" for r in part)
            lines += ["| flagged before → after | " + " | ".join(flagged) + " |"]
            counts = (f"{r['by patch']} / {r['any']}" for r in part)
            lines += ["| maps: flagged by it / any | " + " | ".join(counts) + " |"]
            for method in methods:
                cells = (_cell(row, method) for row in part)
                lines += [f"| {method} | " + " | ".join(cells) + " |"]
    return "\n".join(lines) + "\n"


def _cell(row: dict[str, Any], method: str) -> str:
    found = row["methods"].get(method, {"refused": ""})
    if "refused" in found:
        return "–"
    shares = (
        f"{100 * found[group] / row[group]:.0f}" if row[group] else "–"
        for group in ("by patch", "any")
    )
    return " / ".join(shares)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("network", nargs="?")
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--vit", type=Path, default=Path("small_vit.safetensors"))
    parser.add_argument("--images", type=int, default=60, help="maps of each group")
    parser.add_argument("--candidates", type=int, default=1000, help="images with a patch")
    parser.add_argument("--detectors", default=",".join((*SINGLES, "guard")))
    parser.add_argument("--methods", default="", help="beginnings of names; all if empty")
    parser.add_argument("--design", action="store_true")
    parser.add_argument("--write", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    options.work.mkdir(parents=True, exist_ok=True)
    if options.write:
        before = options.write.read_text() if options.write.exists() else "# Pointing\n"
        text = before.split("\n## resnet20", 1)[0].rstrip("\n") + "\n" + page(options.work)
        options.write.write_text(text)
        return
    name, names = options.network, options.detectors.split(",")
    file = options.work / f"{name}.json"
    if name == "minilm":
        text_study(names, options.images, file)
        return
    if name == "mobilenet":
        study = photo_study(options.candidates, options.design)
    else:
        study = cifar_study(name, options.vit, options.candidates, options.design)
    pointing(study, names, options.images, options.methods, file)


if __name__ == "__main__":
    main()
