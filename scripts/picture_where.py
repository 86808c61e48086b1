"""The picture of docs/where.md: foreign patches in known images, and where their score comes from.

    PYTHONPATH=src:benchmarks python scripts/picture_where.py docs/pictures/where.png

Needs the images and weights of ../shared (GRADOOD_SHARED overrides). The first images that the
energy flags with a patch and not without it; none is picked by its map.
"""

import sys
import warnings
from pathlib import Path

import torch
from matplotlib.figure import Figure
from pointing import cifar_study, flags, judges, planted

import gradood
from gradood import plots

COLUMNS = 6


def main() -> None:
    """Write the picture."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    study = cifar_study("resnet20", Path(), 200, False)
    monitor = judges(study, ["energy"])["energy"]
    patched, corners, side = planted(study.new, study.foreign, 9)
    by_patch = flags(monitor, study, patched) & ~flags(monitor, study, study.new)
    rows = by_patch.nonzero()[:COLUMNS, 0]
    x = study.inputs(patched[rows])
    known = study.inputs(study.fit[0][:300])
    found = {
        "path": gradood.region_map(monitor, x),
        "occlusion": gradood.region_map(monitor, x, method="occlusion"),
        "known": gradood.region_map(monitor, x, method="known", known=known),
    }
    figure = Figure(figsize=(1.5 * COLUMNS, 6.4), layout="constrained")
    axes = figure.subplots(4, COLUMNS)
    for column, row in enumerate(rows.tolist()):
        top, left = (corners[row] - 0.5).tolist()
        axes[0, column].imshow(patched[row].permute(1, 2, 0).numpy())
        axes[0, column].set_axis_off()
        for line, maps in enumerate(found.values(), 1):
            plots.plot_regions(maps, x, row=column, ax=axes[line, column])
        for line in range(4):
            axes[line, column].add_patch(_frame(left, top, side))
    for line, name in enumerate(("image", *found)):
        axes[line, 0].text(-3, 15.5, name, rotation=90, ha="center", va="center")
    figure.savefig(sys.argv[1], dpi=110)


def _frame(left: float, top: float, side: int) -> object:
    from matplotlib.patches import Rectangle

    return Rectangle((left, top), side, side, fill=False, edgecolor="black", linewidth=1.2)


if __name__ == "__main__":
    main()
