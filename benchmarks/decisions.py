"""Are promised false-alarm rates kept on real images, and what is detected at them?

    python benchmarks/decisions.py [--model densenet101] [--limit 2000] [--out FILE.md]

Fits every method on CIFAR-10 training images, calibrates on the first 5,000 test images and counts
alarms on the other 5,000 and on each out-of-distribution set of `../shared/data`. Each false-alarm
rate is held against the band in which it falls 99.9 % of the time if the promise holds: the
calibration is one draw, so it is beta-binomial. All images are scored once; all promises and
combinations are computed from the same scores.
"""

import argparse
import os
import subprocess
import sys
import time
from datetime import date
from pathlib import Path
from typing import get_args

import torch
from scipy.stats import betabinom

import gradood
from gradood.calibration import Calibration, Promise, calibrate, fuse
from gradood.calibration._curve import How
from gradood.data import Preprocess, loader, open_images
from gradood.evidence import content_keys
from gradood.models import REFERENCES, build, load_weights

ROOT = Path(__file__).resolve().parent.parent
SHARED = Path(os.environ.get("GRADOOD_SHARED", ROOT.parent / "shared"))
OOD = ("svhn_test", "textures10_test", "cifar100_test", "tinyimagenet_val", "mnist_test")
PROMISES = (Promise(fpr=0.05), Promise(fpr=0.01), Promise(fpr=0.05, mode="pac"))
COMBINED = ("energy", "gradnorm", "gaia-z", "line", "grood", "knn")
Scores = dict[str, torch.Tensor]


def scored(model: str, limit: int, fit: int) -> tuple[Scores, torch.Tensor, dict[str, Scores]]:
    """Scores of CIFAR-10 test with their content keys, and of each other set."""
    reference = REFERENCES[model]
    preprocess = Preprocess(**reference.preprocess)
    network = load_weights(build(model), SHARED / f"weights/{reference.weights}.safetensors")

    def images(source: str):
        return loader(open_images(f"{SHARED}/data/{source}", preprocess))

    methods = [m.name for m in gradood.methods()]
    monitor = gradood.Monitor(network, methods, skip_unusable=True, progress=True)
    monitor.fit(images(f"cifar10_train_a.parquet[:{fit}]"))
    test = images("cifar10_test.parquet")
    keys = torch.cat([content_keys(x) for x, _ in test])
    known = monitor.score(test)
    others = {n: monitor.score(images(f"{n}.parquet[:{limit}]")) for n in OOD}
    return known, keys, others


def alarms(
    known: Scores, keys: torch.Tensor, others: dict[str, Scores], promise: Promise
) -> list[tuple[str, Calibration, float, list[float]]]:
    """Per method and combination: calibration, false-alarm rate, detection rate on each set."""
    rows = []
    half = {name: scores[:5000] for name, scores in known.items()}
    rest = {name: scores[5000:] for name, scores in known.items()}
    for name in known:
        made = calibrate(half[name], promise)
        rates = [float(made.is_ood(s[name]).double().mean()) for s in (rest, *others.values())]
        rows.append((name, made, rates[0], rates[1:]))
    for names, tag in ((tuple(known), "all"), (COMBINED, "six")):
        for how in get_args(How):
            fusion, made = fuse({n: half[n] for n in names}, keys[:5000], how, promise)
            rates = [
                float(made.is_ood(fusion.statistic(s)).double().mean())
                for s in (rest, *others.values())
            ]
            rows.append((f"{how} of {tag}", made, rates[0], rates[1:]))
    return rows


def band(made: Calibration, size: int) -> tuple[float, float]:
    """Where the false-alarm rate on `size` new samples lies with 99.9 %, ties apart."""
    # The false-alarm rate at the r-th largest of n scores is Beta(r, n + 1 − r).
    rank = int((made.scores > made.threshold).sum()) + 1
    law = betabinom(size, rank, made.samples + 1 - rank)
    return float(law.ppf(0.0005)) / size, float(law.ppf(0.9995)) / size


def table(known: Scores, keys: torch.Tensor, others: dict[str, Scores]) -> list[str]:
    """Markdown, a section per promise."""
    lines: list[str] = []
    for promise in PROMISES:
        rows = alarms(known, keys, others, promise)
        outside = 0
        lines += [f"## {promise}", "", "| | alarms on ID | 99.9 % band | kept |"]
        lines[-1] += " | ".join(["", *others, "mean"])[2:] + " |"
        lines.append("|---|---:|---:|:---:|" + "---:|" * (len(others) + 1))
        for name, made, false, found in rows:
            low, high = band(made, 5000)
            kept = low <= false <= high
            outside += not kept
            cells = [f"{100 * rate:.1f}" for rate in (*found, sum(found) / len(found))]
            lines.append(
                f"| `{name}` | {100 * false:.2f} | {100 * low:.2f} to {100 * high:.2f} | "
                f"{'yes' if kept else 'NO'} | {' | '.join(cells)} |"
            )
        single = max((r for r in rows if " of " not in r[0]), key=lambda r: sum(r[3]))
        joint = max((r for r in rows if " of " in r[0]), key=lambda r: sum(r[3]))
        means = [100 * sum(r[3]) / len(r[3]) for r in (single, joint)]
        lines += [
            "",
            f"{outside} of {len(rows)} outside their band. Best single method `{single[0]}`: "
            f"{means[0]:.1f} % detected on average; best combination `{joint[0]}`: "
            f"{means[1]:.1f} %.",
            "",
        ]
    return lines


def main() -> None:
    """Score, decide, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", default="densenet101")
    parser.add_argument("--limit", type=int, default=2000)
    parser.add_argument("--fit", type=int, default=5000)
    parser.add_argument("--scores", type=Path, help="keep the scores here; reused if present")
    parser.add_argument("--out", type=Path, help="write the page here, too")
    given = parser.parse_args()
    start = time.perf_counter()
    if given.scores and given.scores.exists():
        known, keys, others = torch.load(given.scores, weights_only=True)
    else:
        known, keys, others = scored(given.model, given.limit, given.fit)
        if given.scores:
            torch.save((known, keys, others), given.scores)
    git = ["git", "-C", str(ROOT), "rev-parse", "--short", "HEAD"]
    commit = subprocess.run(git, capture_output=True, text=True, check=False).stdout.strip()
    lines = [
        "# Decisions",
        "",
        f"{given.model} trained on CIFAR-10; fitted on the first {given.fit:,} rows of "
        "cifar10_train_a, calibrated on rows 0 to 4,999 of the test set; alarms in percent on rows "
        f"5,000 to 9,999 and on the first {given.limit:,} rows of each other set. "
        f"{date.today()}, commit {commit}, torch {torch.__version__}. Made with",
        "",
        f"    python benchmarks/decisions.py --model {given.model} --fit {given.fit} "
        f"--limit {given.limit}",
        "",
        f'"six" are {", ".join(COMBINED)}; "all" are all ten methods.',
        "",
        *table(known, keys, others),
    ]
    text = "\n".join(lines)
    print(text)
    print(f"{time.perf_counter() - start:.0f} s", file=sys.stderr)
    if given.out:
        given.out.write_text(text)


if __name__ == "__main__":
    main()
