"""Scores that say little, and whether their fit says so: `nac`, `low-dim-grad` and `gram`.

    python benchmarks/silent_scores.py resnet20_cifar10 --gram

NETWORK is one of benchmarks/five_networks.py. `nac` of the features alone is fitted on parts of the
fit images, at its own steepness and at multiples; `low-dim-grad` on so many of each class; `gram`,
with `--gram`, on the images of a part of the classes, against known images that the network takes
for one of those. Mean AUROC in percent over the sets of outliers; a star: the fit warned.
"""

import argparse
import logging
import warnings
from pathlib import Path
from typing import Any

import torch
from five_networks import NETWORKS, SHARED, opened
from settings_figures import BATCH, Subject, last_layer
from torch import Tensor

import gradood
from gradood.errors import MeaninglessScoreWarning
from gradood.metrics import auroc


def figure(subject: Subject, detector: Any, rows: Tensor, known: Tensor) -> str:
    """Mean AUROC in percent of known inputs against each set, with a star where the fit warned."""
    x, y = (part[rows] for part in subject.fit)
    monitor = gradood.Monitor(subject.model, detector, progress=False)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        monitor.fit(list(zip(x.split(BATCH), y.split(BATCH), strict=True)))
    scores = monitor.score(list(known.split(BATCH)))
    others = [monitor.score(list(x.split(BATCH))) for x in subject.outliers.values()]
    found = [100 * auroc(scores, other) for other in others]
    told = any(w.category is MeaninglessScoreWarning for w in caught)
    return f"{sum(found) / len(found):.1f}{'*' if told else ''}"


def of_features(head: Subject) -> None:
    """`nac` of the features alone, and `low-dim-grad`."""
    labels = head.fit[1]
    for count in (50, 250, len(labels)):
        rows = torch.arange(min(count, len(labels)))
        monitor = gradood.Monitor(head.model, gradood.NAC(layers=()), progress=False)
        alpha = float(monitor.fit(head.fit[0][rows]).states["nac"]["alpha"])
        for factor in (0.01, 0.1, 1, 10, 100):
            detector = gradood.NAC(layers=(), alpha=alpha * factor)
            print(
                f"nac, {len(rows)} to fit on, {factor:g} α:",
                figure(head, detector, rows, head.test),
            )
    for each in (1, 2, 5, 25):
        rows = torch.cat([(labels == c).nonzero()[:each, 0] for c in labels.unique()])
        print(f"low-dim-grad, {each} a class:", figure(head, "low-dim-grad", rows, head.test))


def of_classes(subject: Subject, head: Subject) -> None:
    """`gram` on the images of a part of the classes."""
    predicted = [head.model(x).argmax(1) for x in (head.fit[0], head.test)]
    count = int(head.model[1].weight.shape[0])
    for kept in (1, 0.8, 0.6, 0.5, 0.3):
        rows, known = ((each < kept * count).nonzero()[:, 0] for each in predicted)
        shown = figure(subject, "gram", rows, subject.test[known])
        print(f"gram, {kept:.0%} of the classes:", shown, flush=True)


def main() -> None:
    """Print figures of one network."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("network", choices=NETWORKS)
    parser.add_argument("--work", type=Path, default=SHARED / "weights")
    parser.add_argument("--gram", action="store_true")
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.disable()
    torch.set_num_threads(1)
    sample = opened(given.network, given.work)
    head = last_layer(sample)
    of_features(head)
    if given.gram:
        with torch.no_grad():
            of_classes(Subject(**vars(sample)), head)


if __name__ == "__main__":
    main()
