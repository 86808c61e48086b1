"""One page of what an audit found, before and after: each finding on each kind of network.

    PYTHONPATH=EARLIER/src python benchmarks/settings_figures.py NETWORK --defaults --methods … \\
        --together --work WEIGHTS --inputs NETWORK.pt --out FOLDER/before/NETWORK.json
    python benchmarks/settings_figures.py NETWORK (the same) --out FOLDER/after/NETWORK.json
    python benchmarks/audit_table.py FOLDER --out docs/results/audit.md

EARLIER is the version that was audited (commit 1331942). The figures of each set are written to a
JSON file beside the page.
"""

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from five_networks import NETWORKS
from settings_table import TITLES, mean, opened

from gradood.bench.folder import commit

FINDINGS = (
    ("F1, I8", "shrinkage of four Mahalanobis scores", ("mahalanobis", "mahalanobis++", "rmds",
     "rmds++"), "kept as the default, `shrinkage=\"none\"` is the cited method"),
    ("F2, I2", "α and layers of `nac`", ("nac",), "α from a percentile, layers measured anew"),
    ("F3, I1", "fixed clip and percentiles", ("react", "ash-b", "ash-p", "ash-s", "scale", "lts"),
     "chosen on surrogates of known features"),
    ("F4, I1", "rule of `neco`", ("neco",), "d by collapse, times the largest logit"),
    ("F5", "fits on training images", ("temperature-scaling", "kl-matching"),
     "after: fitted on held-out images"),
    ("F6", "libMR, tail and distance of `open-max`", ("open-max",), "tail by class size, `eucos`"),
    ("F7", "layers and ties of `gram`", ("gram",), "three blocks a stage, ranges of a seeded few"),
    ("F8", "pages that misquote settings", (), "corrected; no figure"),
    ("I3, I4", "`gaia-z`, `gaia-a` on MNIST and CIFAR-100", ("gaia-z", "gaia-a"),
     "the official code gives the same; unchanged"),
    ("I5", "`grood` without real outliers", ("grood",),
     "as published without them; the page says so"),
    ("I6", "`line`", ("line",), "clip chosen on known features"),
    ("I7", "`gradorth`", ("gradorth", "projection-share"),
     "marked as not reproduced; `projection-share` is new"),
    ("I9", "`residual`, `exgrad`", ("residual", "exgrad"), "the official code gives the same"),
    ("I10", "`energy` and others equal to their papers", ("energy",), "unchanged"),
    ("–", "few samples: `knn`, `low-dim-grad`, `vim`", ("knn", "low-dim-grad", "vim"),
     "k and dimension by the fit data"),
    ("–", "`odin` without the std of the preprocessing", ("odin",), "found by itself"),
    ("–", "`adascale`", ("adascale-a", "adascale-l"), "p_min 60 as advised, p_max by known data"),
)  # fmt: skip
"""Findings of the audit: name, what, methods, what was done."""
Record = dict[str, Any]
Sets = dict[str, float]
_SHOWN = [name for name in TITLES if name != "thin_resnet18"]


def automatic(records: Mapping[str, Record]) -> dict[tuple[str, str], Sets | str]:
    """AUROC of each set, or why it was refused, by network and method."""
    return {
        (network, method): entry["auroc"]["auto"] if "auroc" in entry else entry["refused"]
        for network, record in records.items()
        for method, entry in record["methods"].items()
    }


def check_images(before: Mapping[Any, Sets | str], after: Mapping[Any, Sets | str]) -> None:
    """Check by a score that learns nothing that both versions had the same images.

    Raises:
        ValueError: its figures differ.
    """
    for network in _SHOWN:
        pair = [found.get((network, "energy")) for found in (before, after)]
        if pair[0] != pair[1]:
            raise ValueError(f"energy on {network} is {pair[0]} before, {pair[1]} after.")


def table(before: Mapping[Any, Sets | str], after: Mapping[Any, Sets | str]) -> list[str]:
    """Each finding, before and after, on each network."""
    lines = [f"| finding | what | method | {' | '.join(TITLES[n] for n in _SHOWN)} | done |"]
    lines.append("|---|---|---|" + "---:|" * len(_SHOWN) + "---|")
    for finding, what, methods, done in FINDINGS:
        for index, method in enumerate(methods or ("",)):
            cells: list[str] = []
            for network in _SHOWN:
                pair = [found.get((network, method), "") for found in (before, after)]
                shown = [f"{mean(sets):.1f}" if isinstance(sets, dict) else "–" for sets in pair]
                cells.append(" → ".join(shown) if method and any(pair) else "–")
            lead = [finding, what] if index == 0 else ["", ""]
            code, last = f"`{method}`" if method else "", done if index == 0 else ""
            lines.append(f"| {' | '.join([*lead, code, *cells, last])} |")
    return [*lines, ""]


def reasons(before: Mapping[Any, Sets | str], after: Mapping[Any, Sets | str]) -> list[str]:
    """Why there is no figure, of each dash."""
    lines: list[str] = []
    for when, found in (("before", before), ("after", after)):
        for (network, method), sets in found.items():
            if isinstance(sets, str):
                lines.append(f"- `{method}` on {TITLES[network]}, {when}: {sets}")
    new = [m for _, _, methods, _ in FINDINGS for m in methods if (_SHOWN[0], m) not in before]
    lines.append(f"- {', '.join(f'`{m}`' for m in new)} is new: there was nothing before.")
    return lines


def sizes() -> str:
    """How many images each network's rows are of."""
    return "; ".join(
        f"{TITLES[n]} {NETWORKS[n].fit:,} / {NETWORKS[n].held} / {NETWORKS[n].test} / "
        f"{NETWORKS[n].outliers}"
        for n in _SHOWN
    )


def page(
    notes: list[str], before: Mapping[Any, Sets | str], after: Mapping[Any, Sets | str]
) -> str:
    """The page as Markdown."""
    lines = [
        "# What the audit found, before and after",
        "",
        f"Commit {commit()}. Defaults of the version that was audited (1331942) → of now, mean",
        "AUROC in percent over the sets of outliers (CIFAR-10 networks: SVHN, textures, CIFAR-100,",
        "MNIST, Tiny ImageNet; MobileNet-V2: two sets of photographs). Both columns are of the",
        "same inputs, which `energy`, a score that learns nothing, is checked for. To fit on /",
        "held out / known / of each set of outliers:",
        f"{sizes()}.",
        "So the standard error of a mean is 1 to 3 points; that of a difference is less. Made with",
        "",
        "    PYTHONPATH=EARLIER/src python benchmarks/settings_figures.py NETWORK --defaults \\",
        "        --together --work WEIGHTS --inputs NETWORK.pt --out FOLDER/before/NETWORK.json",
        "    python benchmarks/settings_figures.py (the same) --out FOLDER/after/NETWORK.json",
        "    python benchmarks/audit_table.py FOLDER --out docs/results/audit.md",
        "",
        *notes,
        "",
        "## Findings",
        "",
        *table(before, after),
        "## Cells without a figure",
        "",
        *reasons(before, after),
    ]
    return "\n".join(lines).rstrip() + "\n"


def main() -> None:
    """Write the page, and the figures of each set beside it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--notes", type=Path, help="Markdown to put before the table")
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    before = automatic(opened(given.folder / "before"))
    after = automatic(opened(given.folder / "after"))
    methods = {method for _, _, some, _ in FINDINGS for method in some}
    before, after = (
        {key: sets for key, sets in found.items() if key[0] in _SHOWN and key[1] in methods}
        for found in (before, after)
    )
    check_images(before, after)
    notes = given.notes.read_text().splitlines() if given.notes else []
    given.out.write_text(page(notes, before, after), encoding="utf-8")
    figures = [
        json.dumps({"network": n, "method": m, "before": before.get((n, m)), "after": sets})
        for (n, m), sets in after.items()
    ]
    text = "[\n" + ",\n".join(figures) + "\n]\n"
    given.out.with_suffix(".json").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
