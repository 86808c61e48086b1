"""Fine-tuning compared on real images: the same budget for every method, several seeds.

    python benchmarks/training_run.py --work FOLDER --steps 300 --seeds 0,1,2 \
        --out docs/results/training.md

From `resnet20_cifar10` of ../shared, on CIFAR-10 training images and `tinyimagenet_aux`; scored on
SVHN, textures10, CIFAR-100 and MNIST, never on Tiny ImageNet, whose classes were trained against.
Margins and all choices are made on held-out training data, never on the test sets. Every finished
run is kept in the work folder and not done again; one that was interrupted is gone on with.
"""

import argparse
import json
import os
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import gradood
from gradood import data, metrics, models
from gradood._io.atomic import replace
from gradood.bench.folder import provenance
from gradood.training import Options, Recipe, Trainer, TrainingData, load_recipe

SHARED = Path(os.environ.get("GRADOOD_SHARED", Path(__file__).parents[2] / "shared"))
METHODS = (
    "small-plain",
    "small-oe",
    "small-energy",
    "small-greg",
    "small-greg-frozen",
    "small-greg-plus",
)
OOD = ("svhn", "textures10", "cifar100", "mnist")
SCORES = ("energy", "msp")
KNOWN_CLASSES = frozenset(
    # Of Tiny ImageNet: cats, dogs, frogs, birds, cars and trucks, boats, deer-like animals.
    {
        "n02123045",
        "n02123394",
        "n02124075",
        "n02085620",
        "n02094433",
        "n02099601",
        "n02099712",
        "n02106662",
        "n02113799",
        "n01641577",
        "n01644900",
        "n01855672",
        "n02002724",
        "n02056570",
        "n02058221",
        "n02814533",
        "n03100240",
        "n03670208",
        "n03796401",
        "n03977966",
        "n04285008",
        "n03662601",
        "n02423022",
    }
)


def start() -> nn.Module:
    """The trained network that every method begins with."""
    model = models.build("resnet20")
    return models.load_weights(model, SHARED / "weights" / "resnet20_cifar10.safetensors")


def preprocess() -> data.Preprocess:
    """Of its inputs."""
    return data.Preprocess(**models.REFERENCES["resnet20"].preprocess)


def images(name: str, *, labeled: bool, limit: int | None = None) -> data.ImageDataset:
    """Images of ../shared."""
    part = "" if limit is None else f"[:{limit}]"
    source = f"{SHARED / 'data' / name}.parquet{part}"
    return data.open_images(source, preprocess(), labeled=labeled)


def training_data(limit: int | None = None, *, clean: bool = False) -> TrainingData:
    """Half the CIFAR-10 training set, and the auxiliary set, with or without known classes."""
    how = preprocess()
    aux = images("tinyimagenet_aux", labeled=True, limit=limit)
    if clean:
        kept = [i for i in range(len(aux)) if not KNOWN_CLASSES & set(aux.name(i).split("/"))]
        aux = aux.subset(kept)
    return TrainingData(
        id=images("cifar10_train_a", labeled=True, limit=limit),
        aux=aux,
        black=how.black,
        white=how.white,
    )


def trained(recipe: Recipe, folder: Path, given: TrainingData) -> tuple[nn.Module, dict[str, Any]]:
    """The network of a run, made now if it is not there yet, and its record."""
    model = start()
    record, weights = folder / "recipe.json", folder / "model.safetensors"
    if not record.exists():
        began = time.monotonic()
        resume = (folder / "checkpoint.safetensors").exists()
        options = Options(log_every=10)
        Trainer(model, recipe, given, out=folder, options=options).fit(resume=resume)
        text = json.loads(record.read_text()) | {"seconds": time.monotonic() - began}
        write(record, json.dumps(text, indent=2) + "\n")
    models.load_weights(model, weights)
    return model.eval(), json.loads(record.read_text())


def write(file: Path, text: str) -> None:
    """A text file, replaced as a whole."""
    replace(file, [text.encode()], lambda written: None)


class Sets:
    """Test sets, decoded once."""

    def __init__(self, limit: int | None) -> None:
        test = images("cifar10_test", labeled=True, limit=limit)
        assert test.labels is not None
        self.labels = test.labels
        self.known = self._all(images("cifar10_test", labeled=False, limit=limit))
        self.ood = {
            name: self._all(images(f"{name}_test", labeled=False, limit=limit)) for name in OOD
        }

    def judge(self, model: nn.Module) -> dict[str, Any]:
        """Accuracy, and FPR95 and AUROC of each score on each set."""
        monitor = gradood.Monitor(model, list(SCORES), progress=False)
        known: Any = monitor.score(self.known.split(250))
        with torch.inference_mode():
            logits = torch.cat([model(x) for x in self.known.split(250)])
        found: dict[str, Any] = {
            "accuracy": float((logits.argmax(1) == self.labels).float().mean())
        }
        for name, x in self.ood.items():
            outliers: Any = monitor.score(x.split(250))
            for score in SCORES:
                summary = metrics.summary(known[score], outliers[score])
                found[f"{score}/{name}"] = (summary.fpr_ood_at_tpr_id95, summary.auroc)
        return found

    @staticmethod
    def _all(dataset: data.ImageDataset) -> Tensor:
        return torch.cat(list(data.loader(dataset, batch_size=250)))


def judged(sets: Sets, model: nn.Module, file: Path, limit: int | None) -> dict[str, Any]:
    """What `Sets.judge` gives, kept in a file."""
    if file.exists():
        kept = json.loads(file.read_text())
        if kept["limit"] == limit:
            return kept
    found = sets.judge(model) | {"limit": limit}
    write(file, json.dumps(found) + "\n")
    return found


def table(results: dict[str, list[dict[str, Any]]], score: str) -> list[str]:
    """Means over seeds, with the range of the mean FPR95."""
    lines = [
        f"| by {score} | accuracy | {' | '.join(OOD)} | mean | range of mean FPR95 |",
        f"| --- | ---: |{' ---: |' * (len(OOD) + 2)}",
    ]
    for method, runs in results.items():
        cells = [f"{100 * statistics.mean(r['accuracy'] for r in runs):.2f}"]
        means = []
        for name in OOD:
            means.append([statistics.mean(r[f"{score}/{name}"][i] for r in runs) for i in (0, 1)])
            cells.append(f"{100 * means[-1][0]:.2f} / {100 * means[-1][1]:.2f}")
        fpr, auroc = (statistics.mean(m[i] for m in means) for i in (0, 1))
        cells.append(f"{100 * fpr:.2f} / {100 * auroc:.2f}")
        each = [100 * statistics.mean(r[f"{score}/{n}"][0] for n in OOD) for r in runs]
        cells.append(f"{min(each):.2f} – {max(each):.2f}" if len(each) > 1 else "one run")
        lines.append(f"| {method} | {' | '.join(cells)} |")
    return lines


def page(
    results: dict[str, list[dict[str, Any]]], records: dict[str, dict[str, Any]], command: str
) -> str:
    """The result in Markdown."""
    made = provenance()
    lines = [
        "# Fine-tuning compared: ResNet-20 on CIFAR-10 with Tiny ImageNet as outliers",
        "",
        "FPR95 / AUROC in percent, ID positive; means over seeds, as many as are listed below. The "
        "same number of steps for all.",
        "",
    ]
    for score in SCORES:
        lines += [*table(results, score), ""]
    lines += [
        "## Made with",
        "",
        f"    {command}",
        "",
        f"{made['date']}, commit {made['commit']}, torch {made['versions']['torch']}, "
        f"{made['machine']['threads']} threads.",
        "",
        "| run | steps | seconds | m_in / m_out | held-out FPR95 before → after | held-out "
        "accuracy before → after |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for name, record in records.items():
        margin = record["recipe"]["loss"]["margin"]
        limits = "—" if margin is None else f"{margin['m_in']:.2f} / {margin['m_out']:.2f}"
        pair = [
            f"{100 * record['before'][k]:.2f} → {100 * record['after'][k]:.2f}"
            for k in ("fpr95", "accuracy")
        ]
        cells = [str(record["steps"]), f"{record['seconds']:.0f}", limits, *pair]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join([*lines, ""])


def main() -> int:
    """Train what is missing, score, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--seeds", default="0")
    parser.add_argument("--methods", default=",".join(METHODS))
    parser.add_argument("--set", action="append", default=[], dest="changes")
    parser.add_argument("--limit", type=int, help="images of each test set; all without")
    parser.add_argument("--clean", action="store_true", help="leave known classes out of aux")
    parser.add_argument("--train-limit", type=int, help="images of each training set")
    parser.add_argument("--finished", action="store_true", help="leave out runs not yet done")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    given.work.mkdir(parents=True, exist_ok=True)
    sets = Sets(given.limit)
    source = training_data(given.train_limit, clean=given.clean)
    first = judged(sets, start().eval(), given.work / "start.json", given.limit)
    results: dict[str, list[dict[str, Any]]] = {"start": [first]}
    records: dict[str, dict[str, Any]] = {}
    for seed in map(int, given.seeds.split(",")):
        for name in given.methods.split(","):
            settings = [f"seed={seed}", f"schedule.steps={given.steps}", *given.changes]
            recipe = load_recipe(name, settings)
            folder = given.work / f"{name}-{seed}"
            if given.finished and not (folder / "test.json").exists():
                continue
            model, record = trained(recipe, folder, source)
            found = judged(sets, model, folder / "test.json", given.limit)
            label = name.removeprefix("small-")
            results.setdefault(label, []).append(found)
            records[f"{label}, seed {seed}"] = record
            print(folder.name, json.dumps(found), json.dumps(record["after"]), flush=True)
    command = " ".join(["python", "benchmarks/training_run.py", *sys.argv[1:]])
    text = page(results, records, command)
    print(text)
    if given.out:
        write(given.out, text)
        whole = {"results": results, "records": records, **provenance()}
        write(given.out.with_suffix(".json"), json.dumps(whole, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
