"""A merged fit against a fit over the same ranges and against one pass, for every learner.

ResNet-20 learns from 1,500 CIFAR-10 training images, its partials are saved, another monitor loads
them and adds 500. Methods that this network has nothing for learn on the contract's networks:

    python benchmarks/merged_fit.py --out docs/results/merged-fit.json
"""

import argparse
import json
import os
import tempfile
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import gradood
from gradood.data import Preprocess, loader, open_images
from gradood.errors import GradoodError
from gradood.models import REFERENCES, build, load_weights
from gradood.monitor import load_partials, save_partials
from gradood.testing import networks

SHARED = Path(os.environ.get("GRADOOD_SHARED", Path(__file__).parents[2] / "shared"))
LEARNERS = [method.name for method in gradood.methods() if method.learns]
Range = Callable[[], Iterable[Any]]


def main() -> None:
    """Measure every learner, and write what was found."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--only", help="methods, by commas; others keep what the file says")
    given = parser.parse_args()
    out: Path = given.out
    found: dict[str, Any] = json.loads(out.read_text("utf-8")) if out.exists() else {}
    for name in given.only.split(",") if given.only else LEARNERS:
        for network, (model, first, second) in settings().items():
            try:
                make = partial(gradood.Monitor, model, [name], progress=False)
                found[name] = {"network": network} | compared(make, first, second)
            except GradoodError as error:
                found.setdefault(
                    name, {"network": None, "refused": f"{type(error).__name__}: {error}"[:200]}
                )
                continue
            break
        print(json.dumps({name: found[name]}), flush=True)
    ordered = {name: found[name] for name in sorted(found)}
    out.write_text(json.dumps(ordered, indent=1) + "\n", encoding="utf-8")


def settings() -> dict[str, tuple[torch.nn.Module, Range, Range]]:
    """Networks with two ranges of data, the first of which runs every method that it can."""
    model = build("resnet20").eval()
    load_weights(model, SHARED / "weights/resnet20_cifar10.safetensors")
    preprocess = Preprocess(**REFERENCES["resnet20"].preprocess)
    images = open_images(str(SHARED / "data/cifar10_train_a.parquet"), preprocess)
    batches = list(loader(images[:2000], batch_size=100))
    made: dict[str, tuple[torch.nn.Module, Range, Range]] = {
        "resnet20": (model, lambda: batches[:15], lambda: batches[15:])
    }
    for name, network in networks().items():
        parts = [[(network.inputs(40, s), network.labels(40))] for s in range(4)]
        made[name] = (
            network.model(),
            lambda parts=parts: chain(*parts[:3]),
            lambda parts=parts: parts[3],
        )
    return made


def compared(make: Callable[[], gradood.Monitor], first: Range, second: Range) -> dict[str, Any]:
    """Bits against the same ranges, and the largest relative difference from one pass."""
    ranges, once, merged = make(), make(), make()
    parts = ranges.accumulate(first()), ranges.accumulate(second())
    ranges.finish(ranges.merge(*parts))
    once.finish(once.accumulate(chain(first(), second())))
    with tempfile.TemporaryDirectory() as folder:
        kept, file = make(), Path(folder) / "kept.safetensors"
        partials = kept.accumulate(first())
        kept.finish(partials)
        size = save_partials(file, kept, partials)
        merged.bind(next(iter(second()))[0])
        merged.finish(merged.merge(load_partials(file, merged), merged.accumulate(second())))
    (ours,) = merged.states.values()
    (same,) = ranges.states.values()
    (whole,) = once.states.values()
    bits = all(torch.equal(ours[key], tensor) for key, tensor in same.items())
    return {"bytes kept": size, "same bits": bits, "from one pass": apart(ours, whole)}


def apart(ours: Mapping[str, Tensor], whole: Mapping[str, Tensor]) -> float:
    """The largest difference of a tensor, by its largest entry."""
    worst = 0.0
    for key, tensor in whole.items():
        if ours[key].shape != tensor.shape:
            return float("inf")
        if not tensor.numel() or torch.equal(ours[key], tensor):
            continue
        difference = (ours[key].double() - tensor.double()).abs()
        difference = difference.where(ours[key] != tensor, 0.0)  # Equal infinities
        scale = tensor.double().abs()[tensor.isfinite()].amax() if tensor.isfinite().any() else 1.0
        worst = max(worst, float(difference.nan_to_num(torch.inf).amax() / scale))
    return worst


if __name__ == "__main__":
    main()
