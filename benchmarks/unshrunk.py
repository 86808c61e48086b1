"""Mahalanobis and relative distances against scikit-learn's covariance, on features read before.

    python benchmarks/unshrunk.py FOLDER

FOLDER as for `audited_settings`. For each network and method: the largest relative difference of
``shrinkage="none"`` to the released recipe in float64, and the rank correlation of the default.
"""

import argparse
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from audited_settings import OUTLIERS, Network
from scipy.stats import spearmanr
from sklearn.covariance import EmpiricalCovariance

import gradood
from gradood.errors import GradoodWarning

DETECTORS = (gradood.Mahalanobis, gradood.MahalanobisPlusPlus, gradood.RMDS, gradood.RMDSPlusPlus)


def released(name: str, h: Any, y: Any, x: Any) -> Any:
    """Scores (n,) of x by class means of h and the precision of what is centered."""
    if name.endswith("++"):
        h, x = (v / np.linalg.norm(v, axis=1, keepdims=True) for v in (h, x))
    means = {c: h[y == c].mean(0) for c in np.unique(y)}
    centered = np.concatenate([h[y == c] - mean for c, mean in means.items()])
    within = EmpiricalCovariance(assume_centered=True).fit(centered).precision_
    scores = np.min([np.sum((x - m) @ within * (x - m), 1) for m in means.values()], 0)
    if name.startswith("rmds"):
        background = EmpiricalCovariance().fit(h)
        z = x - background.location_
        scores = scores - np.sum(z @ background.precision_ * z, 1)
    return scores


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    warnings.simplefilter("ignore", GradoodWarning)
    for each in sorted(folder.iterdir()):
        network = Network(each)
        x = torch.cat([network.features(name) for name in ("test", *OUTLIERS)])
        (batch,) = network.fit("fit", 5000)
        h, y = batch[0].double().numpy(), batch[1].numpy()
        for kind in DETECTORS:
            monitor = {
                s: gradood.Monitor(network.model, kind(shrinkage=s)) for s in ("oas", "none")
            }
            ours = {s: one.fit([batch]).score(x).numpy() for s, one in monitor.items()}
            theirs = released(kind.name, h, y, x.double().numpy())
            difference = np.max(np.abs(ours["none"] - theirs) / np.abs(theirs))
            rank = float(spearmanr(ours["oas"], theirs)[0])  # type: ignore[arg-type]
            width, name = h.shape[1], kind.name
            print(f"| {each.name}, {width} units | `{name}` | {difference:.1e} | {rank:.4f} |")


if __name__ == "__main__":
    main()
