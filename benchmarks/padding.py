"""Scores of 1,000 texts alone, padded to 128 tokens, and shuffled in batches of 64.

    PYTHONPATH=benchmarks python benchmarks/padding.py [--texts 1000] [--fit 3000]

The network is the MiniLM of ../shared/text, fine-tuned on CLINC150. All detectors that run are
fitted and calibrated on it in batches padded to their longest text. Printed for each: the largest
relative difference from the scores of texts alone (of each score, or of the spread of all, where
that is larger), and how many decisions differ.
"""

import argparse
import os
import time
import warnings
from collections.abc import Sequence
from pathlib import Path

import any_networks
import pyarrow.parquet as parquet
import torch
from safetensors.torch import load_file
from torch import Tensor

import gradood

SHARED = Path(os.environ.get("GRADOOD_SHARED", Path(__file__).parents[2] / "shared"))


def texts(split: str, limit: int) -> tuple[list[list[int]], list[int]]:
    """Token ids and labels of a split, without texts out of scope."""
    table = parquet.read_table(SHARED / "text" / "clinc150.parquet").to_pylist()
    rows = [row for row in table if row["split"] == split and row["label"] >= 0][:limit]
    return [row["ids"] for row in rows], [row["label"] for row in rows]


def batch(ids: Sequence[Sequence[int]], length: int | None = None) -> dict[str, Tensor]:
    """Ids with their mask, padded to a length, or to the longest."""
    size = max(map(len, ids)) if length is None else length
    padded = torch.tensor([[*row, *[0] * (size - len(row))] for row in ids])
    return {"input_ids": padded, "attention_mask": (padded != 0).long()}


def in_batches(ids: Sequence[Sequence[int]], size: int, length: int | None = None) -> list:
    """Batches of some texts."""
    return [batch(ids[i : i + size], length) for i in range(0, len(ids), size)]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--texts", type=int, default=1000)
    parser.add_argument("--fit", type=int, default=3000)
    parser.add_argument("--methods", default=None)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    model = any_networks.minilm().eval().requires_grad_(False)
    model.load_state_dict(load_file(SHARED / "text" / "minilm_clinc150.safetensors"))
    methods = [m.name for m in gradood.methods()]
    if options.methods is not None:
        methods = options.methods.split(",")
    ids, labels = texts("train", options.fit)
    data = [
        {**batch(ids[i : i + 64]), "labels": torch.tensor(labels[i : i + 64])}
        for i in range(0, len(ids), 64)
    ]
    monitor = gradood.Monitor(model, methods, skip_unusable=True, progress=False)
    start = time.perf_counter()
    monitor.fit(data).calibrate(in_batches(texts("val", 1000)[0], 64), fpr=0.05)
    print(f"fit and calibrated in {time.perf_counter() - start:.0f} s", flush=True)
    tests, _ = texts("test", options.texts)
    order = torch.randperm(len(tests), generator=torch.Generator().manual_seed(0)).tolist()
    alone = monitor.predict(in_batches(tests, 1))
    print(f"alone after {time.perf_counter() - start:.0f} s", flush=True)
    padded = monitor.predict(in_batches(tests, 64, 128))
    print(f"padded after {time.perf_counter() - start:.0f} s", flush=True)
    shuffled = monitor.predict(in_batches([tests[i] for i in order], 64))
    back = torch.tensor(order).argsort()
    print(f"{len(tests)} texts; torch {torch.__version__}")
    print(f"{'':24}{'padded':>10}{'shuffled':>10}{'decisions that differ':>24}")
    for name in alone:
        base = alone[name].score
        spread = (base.quantile(0.95) - base.quantile(0.05)).clamp_min(1e-12)
        scale = base.abs().maximum(spread)
        others = (padded[name], padded[name].score), (shuffled[name], shuffled[name].score[back])
        gaps = [float(((score - base).abs() / scale).max()) for _, score in others]
        flips = [
            int((padded[name].is_ood != alone[name].is_ood).sum()),
            int((shuffled[name].is_ood[back] != alone[name].is_ood).sum()),
        ]
        print(f"{name:24}{gaps[0]:10.1e}{gaps[1]:10.1e}{flips[0]:12d}{flips[1]:12d}", flush=True)
    for name, why in monitor.left_out.items():
        print(f"{name}: {why[:150]}")


if __name__ == "__main__":
    main()
