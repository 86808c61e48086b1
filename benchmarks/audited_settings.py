"""Defaults before and after an audit, on features and logits that were read of networks before.

    python benchmarks/audited_settings.py FOLDER [--out docs/results/settings-audit-a.md]

FOLDER holds a folder for each network, with ``head.npz`` (weight, bias) and, of ``fit`` (training
images), ``val`` (held-out ones), ``test``, ``svhn``, ``textures``, ``cifar100`` and ``mnist``, a
``.npz`` file with ``features``, ``logits`` and ``labels``. The detectors run as they are, on the
head alone. AUROC in percent: each set, and the mean of the four.
"""

import argparse
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import gradood
from gradood.errors import GradoodWarning
from gradood.metrics import auroc

OUTLIERS = ("svhn", "textures", "cifar100", "mnist")
SIZES = (20, 50, 250, 5000)
CASES: tuple[tuple[str, str, Any, str], ...] = (
    ("mahalanobis", "default, `oas`", gradood.Mahalanobis(), "fit"),
    ("mahalanobis", "published, `none`", gradood.Mahalanobis(shrinkage="none"), "fit"),
    ("mahalanobis++", "default, `oas`", gradood.MahalanobisPlusPlus(), "fit"),
    ("mahalanobis++", "published, `none`", gradood.MahalanobisPlusPlus(shrinkage="none"), "fit"),
    ("rmds", "default, `oas`", gradood.RMDS(), "fit"),
    ("rmds", "published, `none`", gradood.RMDS(shrinkage="none"), "fit"),
    ("rmds++", "default, `oas`", gradood.RMDSPlusPlus(), "fit"),
    ("rmds++", "published, `none`", gradood.RMDSPlusPlus(shrinkage="none"), "fit"),
    ("msp", "", gradood.MSP(), "fit"),
    ("temperature-scaling", "before: training images", gradood.TemperatureScaling(), "fit"),
    ("temperature-scaling", "after: held-out images", gradood.TemperatureScaling(), "val"),
    ("kl-matching", "before: training images", gradood.KLMatching(), "fit"),
    ("kl-matching", "after: held-out images", gradood.KLMatching(), "val"),
    ("neco", "after", gradood.NECO(), "fit"),
    ("neco", "after, standardized as released", gradood.NECO(standardize=True), "fit"),
    ("neco", "after, without the logit", gradood.NECO(max_logit=False), "fit"),
    ("open-max", "before", gradood.OpenMax(tailsize=20, distance="euclidean"), "fit"),
    ("open-max", "after", gradood.OpenMax(), "fit"),
    ("open-max", "OSDN's (published)", gradood.OpenMax(tailsize=20), "fit"),
    (
        "open-max",
        "OpenOOD's",
        gradood.OpenMax(tailsize=20, alpha=3, distance="euclidean", translation=1),
        "fit",
    ),
    ("gradorth", "not reproduced", gradood.GradOrth(), "fit"),
    ("projection-share", "new", gradood.ProjectionShare(), "fit"),
    ("she", "inner", gradood.SHE(), "fit"),
    ("she", "cosine", gradood.SHE(similarity="cosine"), "fit"),
    ("she", "euclidean", gradood.SHE(similarity="euclidean"), "fit"),
)


class Network:
    """A head, and what was read of the network that it belongs to."""

    def __init__(self, folder: Path) -> None:
        names = ("fit", "val", "test", *OUTLIERS)
        self.sets = {name: dict(np.load(folder / f"{name}.npz")) for name in names}
        head = np.load(folder / "head.npz")
        linear = nn.Linear(*reversed(head["weight"].shape))
        with torch.no_grad():
            linear.weight.copy_(torch.from_numpy(head["weight"]))
            linear.bias.copy_(torch.from_numpy(head["bias"]))
        self.model = nn.Sequential(nn.Identity(), linear).eval()

    def features(self, name: str) -> Tensor:
        return torch.from_numpy(self.sets[name]["features"])

    def fit(self, name: str, rows: int) -> list[tuple[Tensor, Tensor]]:
        """So many rows, as many of each class."""
        labels = torch.from_numpy(self.sets[name]["labels"]).long()
        order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
        each = -(-rows // int(labels.max() + 1))
        kept = torch.cat([order[labels[order] == c][:each] for c in labels.unique()])
        return [(self.features(name)[kept], labels[kept])]

    def figures(self, detector: Any, name: str, rows: int) -> list[float] | None:
        """AUROC of each set and their mean, in percent; None where the detector refuses."""
        monitor = gradood.Monitor(self.model, detector)
        try:
            monitor.fit(self.fit(name, rows))
        except gradood.errors.DataError:
            return None
        known = monitor.score(self.features("test"))
        found = [100 * auroc(known, monitor.score(self.features(one))) for one in OUTLIERS]
        return [*found, sum(found) / len(found)]


def lines(networks: dict[str, Network]) -> list[str]:
    """A table of every case with all rows, and one of the means with fewer."""
    names = list(networks)
    table = ["| method | setting | " + " | ".join(names) + " |", "|---|---|" + "---|" * len(names)]
    columns = [f"{name}, {rows}" for name in names for rows in SIZES[:-1]]
    few = [
        f"| method | setting | {' | '.join(columns)} |",
        "|---|---|" + "---:|" * (len(names) * (len(SIZES) - 1)),
    ]
    for method, setting, detector, source in CASES:
        full, less = [], []
        for network in networks.values():
            found = [network.figures(detector, source, rows) for rows in SIZES]
            *sets, mean = found[-1] or [float("nan")] * 5
            full.append("/".join(f"{value:.0f}" for value in sets) + f" **{mean:.1f}**")
            less += ["refused" if each is None else f"{each[-1]:.1f}" for each in found[:-1]]
        table.append(f"| `{method}` | {setting} | {' | '.join(full)} |")
        few.append(f"| `{method}` | {setting} | {' | '.join(less)} |")
        print(table[-1], flush=True)
    return [*table, "", f"Mean of the four with fewer rows to fit on ({SIZES[:-1]}):", "", *few]


def main() -> None:
    """Measure, print and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    warnings.simplefilter("ignore", GradoodWarning)
    torch.manual_seed(0)
    networks = {
        each.name: Network(each) for each in sorted(given.folder.iterdir()) if each.is_dir()
    }
    text = "\n".join(lines(networks)) + "\n"
    if given.out is not None:
        given.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
