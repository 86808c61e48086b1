"""One page of every setting on every network.

    python benchmarks/settings_figures.py NETWORK --work WEIGHTS --out FOLDER/NETWORK.json
    python benchmarks/settings_table.py FOLDER --out docs/results/settings-all.md

The first for each of benchmarks/five_networks.py. The page's figures are means over the sets of
outliers; those of each set are in the JSON file beside it.
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from gradood.bench.folder import commit

TITLES = {
    "densenet101_cifar10": "DenseNet-101",
    "resnet20_cifar10": "ResNet-20",
    "resnet56_cifar10": "ResNet-56",
    "thin_resnet18": "thin ResNet-18",
    "small_vit": "small ViT",
    "mobilenet_photos": "MobileNet-V2",
}
BESIDE = {
    "nac": "α, r, M and layers were chosen on outlier images, of another network",
    "react": "the percentile was chosen on outliers",
    "ash-b": "the percentile was chosen on outliers",
    "ash-p": "the percentile was chosen on outliers",
    "ash-s": "the percentile was chosen on outliers",
    "vra": "both quantiles were chosen on outliers",
    "vra++": "chosen on outliers, per network",
    "weiper-kld": "chosen on outliers, per network",
    "itp": "chosen on outliers, per network",
    "actsub": "λ and the percentile were chosen on outliers",
    "adascale-a": "both percentiles were chosen on outliers",
    "adascale-l": "both percentiles were chosen on outliers",
    "odin": "the step was chosen on outliers",
    "i-odin": "the step is ODIN's",
    "gradorth": "not reproduced",
}
"""Methods whose published setting authors chose on outliers, and those not reproduced."""
Record = dict[str, Any]


def mean(figures: Mapping[str, float]) -> float:
    """Over the sets."""
    return sum(figures.values()) / len(figures)


def rows_of(entry: Record) -> dict[str, tuple[float, str]]:
    """Mean AUROC and words of the automatic, the published and the best setting of a method."""
    if "refused" in entry:
        return {}
    found = {name: (mean(sets), name) for name, sets in entry["auroc"].items()}
    rows = {"auto": (found["auto"][0], entry["chosen"] or entry["words"]["auto"])}
    if "published" in found:
        rows["published"] = (found["published"][0], entry["words"]["published"])
    best = max(found.values())
    rows["in hindsight"] = (best[0], {**entry["words"]}.get(best[1], best[1]))
    return rows


def losses(records: Mapping[str, Record]) -> list[str]:
    """What the automatic setting loses to the published one, where it is another."""
    found: list[str] = []
    total = beside = 0
    for network, record in records.items():
        for method, entry in record["methods"].items():
            rows = rows_of(entry)
            if "published" not in rows:
                continue
            total += 1
            lost = rows["published"][0] - rows["auto"][0]
            if lost > 5:
                beside += method in BESIDE
                why = f" ({BESIDE[method]})" if method in BESIDE else ""
                found.append(
                    f"- `{method}` on {TITLES[network]}: {rows['auto'][0]:.1f}, published "
                    f"{rows['published'][0]:.1f}{why}"
                )
    head = f"Of {total} rows of a method on a network, {len(found)} are more than 5 points below "
    return [head + f"the published setting, {beside} of them of settings chosen on outliers.", "",
            *found, ""]  # fmt: skip


def table(records: Mapping[str, Record]) -> list[str]:
    """Means of every method at its three settings."""
    names = [TITLES[network] for network in records]
    lines = [f"| method | setting | {' | '.join(names)} | published options |"]
    lines.append("|---|---|" + "---:|" * len(names) + "---|")
    methods = {method for record in records.values() for method in record["methods"]}
    for method in sorted(methods):
        entries = {n: r["methods"].get(method, {"refused": ""}) for n, r in records.items()}
        rows = {network: rows_of(entry) for network, entry in entries.items()}
        words = next((r["published"][1] for r in rows.values() if "published" in r), "")
        words = "by kind of network" if method == "nac" else words
        same = all(
            "published" not in r or e["words"]["published"] == e["words"]["auto"]
            for r, e in zip(rows.values(), entries.values(), strict=True)
        )
        tried = any(len(e.get("auroc", {})) > 2 for e in entries.values())
        kinds = ["auto"] + ([] if same else ["published"]) + (["in hindsight"] if tried else [])
        for kind in kinds:
            cells = [f"{r[kind][0]:.1f}" if kind in r else "–" for r in rows.values()]
            title = f"`{method}`" if kind == "auto" else ""
            named = "auto, as published" if same and kind == "auto" else kind
            named = "*in hindsight*" if kind == "in hindsight" else named
            mark = f" [{method in BESIDE and BESIDE[method]}]" if method in BESIDE else ""
            extra = f"`{words}`{mark}" if kind == "published" else (mark if same else "")
            extra = extra if kind != "in hindsight" else ""
            lines.append(f"| {title} | {named} | {' | '.join(cells)} | {extra.strip()} |")
    return [*lines, ""]


def sizes(records: Mapping[str, Record]) -> str:
    """How many images each network's rows are of."""
    parts: list[str] = []
    for network, record in records.items():
        fit, held, test, each = record["sizes"].values()
        parts.append(f"{TITLES[network]} {fit:,} / {held} / {test} / {each}")
    return "; ".join(parts)


def left_out(records: Mapping[str, Record]) -> list[str]:
    """Methods and settings that a network refused, with the reason."""
    lines: list[str] = []
    for network, record in records.items():
        for method, entry in record["methods"].items():
            if "refused" in entry:
                lines.append(f"- `{method}` on {TITLES[network]}: {entry['refused']}")
            elif "published" in entry.get("refused settings", {}):
                reason = entry["refused settings"]["published"]
                lines.append(f"- `{method}` as published on {TITLES[network]}: {reason}")
    return lines


def data_of(records: Mapping[str, Record]) -> str:
    """Figures of each set at the three settings, as JSON of one line for each method."""
    lines: list[str] = []
    for network, record in records.items():
        for method, entry in record["methods"].items():
            if "refused" in entry:
                continue
            best = max(entry["auroc"], key=lambda name: mean(entry["auroc"][name]))
            kept = {name: entry["auroc"][name] for name in ("auto", "published", best)
                    if name in entry["auroc"]}  # fmt: skip
            words = {name: entry["words"].get(name, name) for name in kept}
            found = {"network": network, "method": method, "on": entry["on"], "options": words}
            found |= {"chosen": entry["chosen"], "best": best, "auroc": kept}
            lines.append(json.dumps(found))
    return "[\n" + ",\n".join(lines) + "\n]\n"


def opened(folder: Path) -> dict[str, Record]:
    """Records in a folder, in the order of `TITLES`."""
    files = {name: folder / f"{name}.json" for name in TITLES}
    return {n: json.loads(file.read_text()) for n, file in files.items() if file.exists()}


def page(folder: Path, notes: Sequence[str]) -> str:
    """The page as Markdown."""
    after = opened(folder)
    lines = [
        "# Every setting on every network: automatic, published, in hindsight",
        "",
        f"{datetime.now(UTC):%Y-%m-%d}, commit {commit()}. Made with",
        "`benchmarks/settings_figures.py` and `benchmarks/settings_table.py`, whose docstrings",
        "have the commands.",
        "",
        "Mean AUROC in percent over the sets of outliers (CIFAR-10 networks: SVHN, textures,",
        "CIFAR-100, MNIST, Tiny ImageNet; MobileNet-V2: two sets of photographs). *Auto* is the",
        "default, a rule on known data alone (ADR 0034 to 0037); *published* are the options of",
        "the paper or its released code; *in hindsight* is the best of a grid",
        "(`benchmarks/settings_grids.py`) and of the two, chosen on the very outliers that it is",
        "measured on: a bound, and nothing that a user can have. All rows of a network are of the",
        "same images; to fit on / held out / known / of each set of outliers:",
        f"{sizes(after)}.",
        "So the standard error of a mean is 1 to 3 points; that of a difference between two",
        "settings is less. Methods of features and logits at larger sizes:",
        "[settings.md](settings.md).",
        "",
        *notes,
        "## Auto against published",
        "",
        *losses(after),
        "## All rows",
        "",
        *table(after),
        "What an audit found, before and after: [audit.md](audit.md).",
        "",
    ]
    refused = left_out(after)
    if refused:
        lines += ["## Refused", "", *refused, ""]
    return "\n".join(lines).rstrip() + "\n"


def main() -> None:
    """Write the page."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--notes", type=Path, help="Markdown to put before the tables")
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    notes = given.notes.read_text().splitlines() if given.notes else []
    given.out.write_text(page(given.folder, notes), encoding="utf-8")
    given.out.with_suffix(".json").write_text(data_of(opened(given.folder)), encoding="utf-8")


if __name__ == "__main__":
    main()
