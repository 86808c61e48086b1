"""The page of `banks.py`: `python benchmarks/bank_page.py FOLDER --out docs/results/banks.md`.

FOLDER holds `choice.json`, `resnet20.json`, `big.json`, `forward.json` and `fit-*.json`, as the
steps of `banks.py` wrote them.
"""

import argparse
import json
from pathlib import Path
from typing import Any

HEAD = """# Bounded banks

What detectors lose that keep a part of the fit samples, or keep them in fewer bits (ADR 0051,
[large fits](../banks.md)). `benchmarks/banks.py` has the commands, and `benchmarks/bank_page.py`
made this page. AUROC in percent; a difference is the bounded form's less the exact one's. Rates
are per second of the CPU, of one thread, on a machine whose two cores eight other processes
shared.
"""
CHOICE = """
## What was chosen, and on what

Forms of the bank of `knn` at an eighth of the memory: {forms}. Chosen on the sets of this table,
of which none is reported below: other networks, other outliers for ResNet-20 (MNIST and the
auxiliary part of Tiny ImageNet), and drawn features of another seed. Mean difference over the
outlier sets, and the worst of them.
"""
CHOSEN = """
A trained product quantizer (faiss) loses least. It was left: it must be trained before anything
is encoded, on rows that stand for those to come, while a fit sees each row once, in any order, on
any number of machines; and a search without faiss is slower than with 4 bits. Those came second,
and need no library. A sample is the fastest, and loses up to 2 points. Eight bits lose nothing
that can be measured, in a quarter of the memory: narrow features take those above 1 GiB. A
memory-mapped bank loses nothing (below).
"""
NETWORK = """
## ResNet-20, 50,000 training images of CIFAR-10

1,500 images of each set (1,200 textures). `k` is 50 for `knn`. Memory is that of the state; for
`vim` and `open-max`, whose state is small, that of what a fit keeps. `grood` with the class means
as prototype, all on the last layer alone.
"""
BIG = """
## {rows:,} × {width:,} drawn features

Positive features about 1,000 centers, in 32 directions of eight kinds and noise; outliers about
other centers, of whose square a tenth (near) or a quarter (far) is new. {queries} queries of each
set, searched together. The file of 9.8 GiB is searched as it lies on disk for the exact form.
"Alone" is one query by itself. "Memory" is of the bank; the last column what the process holds
beside files.
"""
FORWARD = """
A network of the layers of ResNet-50 (random weights, {size:.1f} thousand million multiplications)
makes {alone:.1f} images a second alone and {many:.1f} in batches of 16, by the same clock: a
search of the whole bank, exact or coded, adds to a forward pass what the table says, and to one
of an image alone several times its cost. There an eighth of the samples is the better bound.
"""
FIT = """
## The fit

`Monitor.fit` with `knn` on the same file, in batches of 1,024, as anybody runs it; a head of ten
outputs.
"""
METHODS = {"vim": 8.0, "open-max": 8.0}
"""Methods whose fit alone is bounded: the ratio of what it keeps."""


def difference(exact: dict[str, float], bounded: dict[str, float]) -> tuple[float, float]:
    """Mean over the sets, and the least."""
    found = [bounded[name] - exact[name] for name in exact]
    return sum(found) / len(found), min(found)


def choice(found: dict[str, Any]) -> list[str]:
    """The table of forms on the sets to choose on."""
    forms = [form for form in next(iter(found.values())) if form != "exact"]
    lines = [CHOICE.format(forms="; ".join(forms))]
    lines += [f"| | exact | {' | '.join(forms)} |", "|---|---:|" + "---:|" * len(forms)]
    for name, each in found.items():
        exact = each["exact"]
        cells = [f"{sum(exact.values()) / len(exact):.1f}"]
        for form in forms:
            mean, worst = difference(exact, each[form])
            cells.append(f"{mean:+.2f} ({worst:+.2f})")
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return [*lines, CHOSEN]


def network(rows: list[dict[str, Any]]) -> list[str]:
    """The table of detectors on ResNet-20."""
    sets = list(rows[0]["exact"]["auroc"])
    lines = [NETWORK, f"| method | bound | memory | {' | '.join(sets)} | mean | images/s |"]
    lines.append("|---|---|---:|" + "---:|" * (len(sets) + 2))
    for row in rows:
        exact, bounded = row["exact"], row["bounded"]
        ratio = METHODS.get(row["method"], exact["bytes"] / bounded["bytes"])
        cells = [
            f"{exact['auroc'][s]:.1f} {bounded['auroc'][s] - exact['auroc'][s]:+.2f}" for s in sets
        ]
        mean, _ = difference(exact["auroc"], bounded["auroc"])
        method = ", ".join([f"`{row['method']}`", *map(_option, row["options"].items())])
        bound = ", ".join(map(_option, row["bound"].items()))
        speed = f"{exact['images_per_second']:,.0f} → {bounded['images_per_second']:,.0f}"
        lines.append(
            f"| {method} | {bound} | 1/{ratio:.1f} | {' | '.join(cells)} | {mean:+.2f} | {speed} |"
        )
    return lines


def _option(pair: tuple[str, Any]) -> str:
    return f"{pair[0]}={pair[1]}"


def big(found: dict[str, Any], forward: dict[str, Any]) -> list[str]:
    """The table of forms on the large set."""
    forms, exact = found["forms"], found["forms"]["exact, memory-mapped"]["auroc"]
    sets = list(exact)
    lines = [BIG.format(**found)]
    lines += [
        f"| form | memory | {' | '.join(sets)} | queries/s | seconds, alone | holds |",
        "|---|---:|" + "---:|" * (len(sets) + 3),
    ]
    for form, row in sorted(forms.items()):
        cells = [f"{row['auroc'][s]:.2f} ({row['auroc'][s] - exact[s]:+.2f})" for s in sets]
        lines.append(
            f"| {form}, k = {row['k']} | {row['bytes'] / 2**30:.2f} GiB | {' | '.join(cells)} | "
            f"{row['queries_per_second']:.1f} | {row['seconds_alone']:.2f} | "
            f"{row['anonymous_MiB'] / 1024:.1f} GiB |"
        )
    speed = forward["images_per_second"]
    size = forward["multiplications"] / 1e9
    return [*lines, FORWARD.format(size=size, alone=speed["batch 1"], many=speed["batch 16"])]


def fits(found: list[dict[str, Any]]) -> list[str]:
    """What fits took and said."""
    lines = [
        FIT,
        "| options | rows | CPU seconds | most held | after |",
        "|---|---:|---:|---:|---:|",
    ]
    for row in found:
        options = ", ".join(map(_option, row["options"].items()))
        lines.append(
            f"| {options} | {row['rows']:,} | {row['cpu_seconds']:.0f} | "
            f"{row['peak_MiB'] / 1024:.2f} GiB | {row['after_MiB'] / 1024:.2f} GiB |"
        )
    for row in found:
        lines += ["", *(f"It warned: *{text}*" for text in row["warnings"])]
    return lines


def main() -> None:
    """Write the page."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()

    def read(name: str) -> Any:
        return json.loads((given.folder / f"{name}.json").read_text())

    lines = [HEAD, *choice(read("choice")), *network(read("resnet20"))]
    lines += big(read("big"), read("forward"))
    lines += fits([json.loads(p.read_text()) for p in sorted(given.folder.glob("fit-*.json"))])
    given.out.write_text(
        "\n".join(line.rstrip("\n") for line in lines).replace("\n\n\n", "\n\n") + "\n"
    )


if __name__ == "__main__":
    main()
