"""False alarms after a calibration on a slice of class folders, and on repeated images.

    python benchmarks/sliced.py [--draws 5] [--out docs/results/sliced.md]

ResNet-20, fitted on 2,000 images of CIFAR-10's training set. For each draw, 1,500 images of its
test set are put into class folders. `FOLDER[:300]` calibrates at 5 %, and 1,000 other images of the
test set are decided. A rate is inside its band if such a count, or one further off, has at least
0.05 % chance on its side (beta-binomial). Then 30 images are repeated 10 times, which is refused or
keeps the promise.
"""

import argparse
import os
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from scipy.stats import betabinom

import gradood
from gradood import data, models
from gradood.errors import CalibrationError

SHARED = Path(os.environ.get("GRADOOD_SHARED", Path(__file__).parents[2] / "shared"))
METHODS = ["energy", "knn", "mahalanobis++", "nci", "grood", "gaia-z"]
FPR = 0.05


def write_folder(root: Path, source: data.ImageDataset, rows: list[int]) -> None:
    """Image files of some rows, in a folder for each class."""
    labels = source.labels
    assert labels is not None
    for row in rows:
        encoded = source.encoded(row)
        assert isinstance(encoded, bytes)
        folder = root / f"{int(labels[row])}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{row:05}.png").write_bytes(encoded)


def band(flagged: int, total: int, samples: int) -> bool:
    """Whether a count of false alarms is inside the 99.9 % band of its promise."""
    rank = int(FPR * (samples + 1))
    law = betabinom(total, rank, samples + 1 - rank)
    return bool(law.cdf(flagged) >= 0.0005 and law.sf(flagged - 1) >= 0.0005)


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--draws", type=int, default=5)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    model = models.build("resnet20").eval()
    models.load_weights(model, SHARED / "weights" / "resnet20_cifar10.safetensors")
    preprocess = data.Preprocess(**models.REFERENCES["resnet20"].preprocess)
    known = data.open_images(f"{SHARED / 'data' / 'cifar10_train_a.parquet'}[:2000]", preprocess)
    test = data.open_images(str(SHARED / "data" / "cifar10_test.parquet"), preprocess)
    monitor = gradood.Monitor(model, METHODS, combine="fisher", progress=False)
    monitor.fit(data.loader(known, batch_size=128))
    rng = np.random.default_rng(0)
    rates: dict[str, list[float]] = {}
    outside = 0
    for _ in range(options.draws):
        order = rng.permutation(len(test)).tolist()
        with tempfile.TemporaryDirectory() as folder:
            write_folder(Path(folder), test, order[:1500])
            images = data.open_images(f"{folder}[:300]", preprocess)
            monitor.calibrate(data.loader(images, batch_size=100), fpr=FPR)
        others = order[1500:2500]
        x = torch.stack([test[row][0] for row in others])
        results = monitor.predict(x.split(128))
        for name, result in {**dict(results.items()), "fisher": results.combined}.items():
            flagged = int(result.is_ood.sum())
            rates.setdefault(name, []).append(flagged / len(others))
            samples = 150 if name == "fisher" else 300
            outside += not band(flagged, len(others), samples)
    lines = [
        "# False alarms after a calibration on `FOLDER[:300]` of 1,500 images in class folders",
        "",
        *(__doc__ or "").splitlines()[2:],
        "",
        "| | mean | each draw |",
        "|---|---:|---|",
        *(
            f"| `{name}` | {100 * np.mean(found):.2f} % | "
            f"{', '.join(f'{100 * rate:.1f}' for rate in found)} |"
            for name, found in rates.items()
        ),
        "",
        f"Outside the 99.9 % band of {100 * FPR:g} %: {outside} of "
        f"{options.draws * (len(METHODS) + 1)}.",
        "",
    ]
    few = torch.stack([test[row][0] for row in range(30)])
    for fpr in (0.01, 0.05):
        try:
            monitor.calibrate(few.repeat(10, 1, 1, 1).split(100), fpr=fpr)
            others = torch.stack([test[row][0] for row in range(2000, 4000)])
            results = monitor.predict(others.split(128))
            shown = ", ".join(
                f"{name} {100 * float(result.is_ood.double().mean()):.1f} %"
                for name, result in results.items()
            )
            lines.append(f"30 images, each 10 times, at {100 * fpr:g} %: false alarms {shown}.")
        except CalibrationError as error:
            lines.append(f"30 images, each 10 times, at {100 * fpr:g} %: refused: {error}")
    text = "\n".join(lines) + "\n"
    print(text)
    if options.out:
        options.out.write_text(text)
    return int(outside > 0)


if __name__ == "__main__":
    sys.exit(main())
