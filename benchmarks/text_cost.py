"""What one look at a text classifier costs, as a ratio to its plain forward pass.

    python benchmarks/text_cost.py [--rounds 3] [--length 64] [--batch 32] [--page FILE]

DistilBERT (6 layers, 768 wide, 12 heads, 66 million weights; random ones) on batches of 32 texts of
32 to 64 tokens, padded to 64. Forward-only methods alone, and all of them together; each is timed
between two plain forwards, and the median of the ratios is taken, as in benchmarks/cost.py.
"""

import argparse
import os
import statistics
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import DistilBertConfig, DistilBertForSequenceClassification

import gradood

METHODS = ("msp", "energy", "max-logit", "gradnorm", "knn", "mahalanobis", "mahalanobis++", "vim")
CLASSES = 20


class Logits(nn.Module):
    """DistilBERT with a head of some classes."""

    def __init__(self) -> None:
        super().__init__()
        config = DistilBertConfig(num_labels=CLASSES)
        self.net = DistilBertForSequenceClassification(config)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Logits (batch, classes)."""
        return self.net(input_ids=input_ids, attention_mask=attention_mask).logits


def batch(size: int, length: int) -> dict[str, Tensor]:
    """Random ids of half to full length, with their mask."""
    generator = torch.Generator().manual_seed(size)
    counts = torch.randint(length // 2, length + 1, (size,), generator=generator)
    counts[0] = length
    mask = (torch.arange(length) < counts[:, None]).long()
    ids = torch.randint(1000, 30000, (size, length), generator=generator) * mask
    return {"input_ids": ids, "attention_mask": mask}


def seconds(call: Callable[[], object]) -> float:
    """Of one call."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def say(text: str) -> None:
    """Progress, at once."""
    print(text, file=sys.stderr, flush=True)


def fitted(model: nn.Module, fit: list[dict[str, Tensor]]) -> dict[str, gradood.Monitor]:
    """A monitor of each method, and one of all, that share one pass over the fit data."""
    found: dict[str, gradood.Monitor] = {}
    for name in ("all of these", *METHODS):
        start = time.perf_counter()
        methods = list(METHODS) if name == "all of these" else name
        found[name] = gradood.Monitor(model, methods, progress=False).fit(fit)
        say(f"fitted {name} in {time.perf_counter() - start:.0f} s")
    return found


def ratios(calls: dict[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Of each call to the mean of the plain forwards right before and after it."""
    baseline, *others = calls
    for call in calls.values():
        call()
    found: dict[str, list[float]] = {name: [] for name in others}
    for number in range(rounds):
        before = seconds(calls[baseline])
        for place in range(len(others)):
            name = others[(place + number) % len(others)]
            own = seconds(calls[name])
            after = seconds(calls[baseline])
            found[name].append(2 * own / (before + after))
            before = after
        say(f"round {number + 1} of {rounds}; a plain forward takes {before:.2f} s")
    return found


def main() -> None:
    """Print the ratios, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--length", type=int, default=64)
    parser.add_argument("--fit", type=int, default=128)
    parser.add_argument("--page", type=Path, default=None)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.manual_seed(0)
    model = Logits().eval().requires_grad_(False)
    x = batch(options.batch, options.length)
    rows = batch(options.fit, 8)
    with torch.inference_mode():
        labels = torch.arange(options.fit) % CLASSES
    fit = [
        {name: leaf[i : i + 32] for name, leaf in rows.items()} | {"labels": labels[i : i + 32]}
        for i in range(0, options.fit, 32)
    ]
    monitors = fitted(model, fit)

    def plain() -> object:
        with torch.inference_mode():
            return model(**x)

    calls: dict[str, Callable[[], object]] = {"plain forward": plain}
    calls |= {name: lambda monitor=monitor: monitor.score(x) for name, monitor in monitors.items()}
    load = os.getloadavg()[0]
    found = ratios(calls, options.rounds)
    command = f"python benchmarks/text_cost.py --rounds {options.rounds}"
    lines = [
        "# What one look at a text costs",
        "",
        f"`{command}`: DistilBERT (66 million random weights), {options.batch} texts of "
        f"{options.length // 2} to {options.length} tokens padded to {options.length}; "
        "each method between two plain forwards, in turns. CPU, float32, "
        f"{torch.get_num_threads()} thread(s), torch {torch.__version__}; load of the machine "
        f"{load:.1f} to {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores.",
        "",
        "| method | median of the ratios | least | largest |",
        "|---|---:|---:|---:|",
    ]
    for name, each in found.items():
        lines.append(
            f"| {name} | {statistics.median(each):.3f} | {min(each):.3f} | {max(each):.3f} |"
        )
    every = [ratio for each in found.values() for ratio in each]
    lines += ["", f"Median of all {len(every)} ratios: {statistics.median(every):.3f}."]
    print("\n".join(lines))
    if options.page is not None:
        options.page.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
