"""A fit and a scoring job on Ray, started on this machine, against the same in one process.

    make demo-cluster

Takes the folder that `make demo` leaves, or makes its network and images. Two actors fit detectors
and score the training digits; then the shards of results are held against those of one process,
byte by byte, and what was learned against one pass over the data. Needs no other machine.
"""

import hashlib
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from safetensors.torch import load_file

ROOT = Path(__file__).resolve().parent.parent
METHODS = "energy,knn,mahalanobis++,react,gradpca"
CLUSTER = ("--on", "ray", "--actors", "2")


def gradood(*arguments: str) -> None:
    """Run a command, with one thread: as many as each actor has."""
    print("$ gradood", *arguments, flush=True)
    began = time.monotonic()
    command = [sys.executable, "-m", "gradood", *arguments]
    done = subprocess.run(command, env={**os.environ, "OMP_NUM_THREADS": "1"}, check=False)
    print(f"  {time.monotonic() - began:.1f} s\n", flush=True)
    if done.returncode:
        sys.exit(f"demo_cluster: that ended with exit code {done.returncode}")


def shards(folder: Path) -> dict[str, str]:
    """SHA-256 of each shard of results, by name."""
    return {
        file.name: hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(folder.glob("*.parquet"))
    }


def largest_difference(one: Path, other: Path) -> float:
    """Between what two detectors learned, relative to the largest value of each tensor."""
    a, b = load_file(one), load_file(other)
    if a.keys() != b.keys():
        sys.exit("demo_cluster: FAILED, the detectors do not hold the same tensors")
    differences = [
        float((a[name].double() - b[name].double()).abs().max() / scale)
        for name in a
        if "/state/" in name and a[name].numel()
        for scale in [a[name].double().abs().max().clamp(min=torch.finfo(torch.float64).tiny)]
    ]
    return max(differences)


def make_demo(folder: Path) -> None:
    """The network and images of `make demo`, without the comparison of all methods."""
    from gradood.bench._demo import load_digits, one_thread, train
    from gradood.bench._demo_folder import DemoImages, decide, write_folder

    print("training a small network on images of the digits 0 to 7 …", flush=True)
    settings = {"seed": 0, "epochs": 12}
    digits = load_digits(seed=settings["seed"])
    with one_thread():
        model, images = train(digits, **settings), DemoImages.of(digits)
        write_folder(folder, model, images, decide(model, images).monitor, settings)


def main() -> None:
    """Fit and score on two actors, and compare."""
    demo = ROOT / "demo"
    with tempfile.TemporaryDirectory(prefix="gradood-cluster-") as scratch:
        work = Path(scratch)
        if not (demo / "weights.safetensors").exists():
            demo = work / "demo"
            make_demo(demo)
        weights = str(demo / "weights.safetensors")
        model = ("--model", "digits_net", "--num-classes", "8", "--weights", weights)
        here, there = str(work / "here.safetensors"), str(work / "there.safetensors")
        fit = ("fit", *model, "--data", str(demo / "train"), "--methods", METHODS)
        fit = (*fit, "--combine", "fisher", "--batch-size", "16", "--out")
        gradood(*fit, here)
        gradood(*fit, there, *CLUSTER)
        difference = largest_difference(Path(here), Path(there))
        held_out = ("--data", str(demo / "val"), "--out", there)
        gradood("calibrate", *model, "--detector", there, *held_out)
        score = ("score", str(demo / "train"), *model, "--detector", there)
        score = (*score, "--shard-rows", "100", "--workers", "1", "--out")
        gradood(*score, str(work / "one"))
        gradood(*score, str(work / "two"), *CLUSTER)
        one, two = shards(work / "one"), shards(work / "two")
    same = sum(one[name] == two.get(name) for name in one)
    print(f"{same} of {len(one)} shards of two actors have the bytes of one process")
    print(f"what two actors learned differs from one pass by {difference:.1e} at most")
    if one != two or not one or difference > 1e-6:
        sys.exit("demo_cluster: FAILED")


if __name__ == "__main__":
    main()
