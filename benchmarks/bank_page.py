"""The page of `banks.py`: `python benchmarks/bank_page.py FOLDER --out docs/results/banks.md`.

FOLDER holds `choice.json`, `resnet20.json`, `big.json`, `forward.json`, `beside.json` and
`fit-*.json`, as the steps of `banks.py` wrote them.
"""

import argparse
import json
from pathlib import Path
from statistics import median
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

1,500 images of each set (1,200 textures). `k` is 50 for `knn`. `grood` with the class means as
prototype, all on the last layer alone. Memory is that of the state; `vim` and `open-max` have a
small one, and there it is that of what a fit keeps:

| method | kept, exactly | kept, bounded |
|---|---|---|
| `knn` | all directions in float32, and lengths | all, in 4 or 8 bits per number, or a part |
| `grood`, `nnguide` | all directions; `nnguide` of the share `alpha`, 1 % by default | a part |
| `vim` | moments; all features until α is known | moments; for α, a part |
| `open-max` | all logits until the fit ends | class means of all; of each class the farthest |

A part is chosen by a hash of the content. The farthest logits of `open-max` hold the tails that
are fitted, which are therefore those of all samples, whatever the part is.
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
BESIDE = """
### In turns with a forward pass

64 queries of the set above and 16 images of 224 × 224, {rounds} rounds of each, one after the other
in one process and thread: the median per second of the CPU, and of the clock on the shared machine.

| | per second of the CPU | of the clock | a query costs |
|---|---:|---:|---:|
"""
FIT = """
## The fit

`Monitor.fit` on the same file, in batches of 1,024, as anybody runs it; a head of ten outputs for
`knn`, of 1,000 for the others. "Most held" is memory of the process that is no file's, above what
it had before. {rows:,} rows of 2,048 are {size:.1f} GiB in float32.
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


def beside(found: dict[str, Any]) -> list[str]:
    """The table of searches beside a forward pass."""
    rounds = found["per_second_of_cpu_and_of_clock"]
    names = list(rounds)
    lines = [BESIDE.format(rounds=len(rounds[names[0]])).rstrip("\n")]
    image = median(cpu for cpu, _ in rounds[names[0]])
    for name in names:
        cpu, clock = (median(pair[place] for pair in rounds[name]) for place in (0, 1))
        cost = "1 image" if name == names[0] else f"{image / cpu:.1f} images"
        lines.append(f"| {name} | {cpu:.1f} | {clock:.1f} | {cost} |")
    return lines


def fits(found: list[dict[str, Any]]) -> list[str]:
    """What fits took and said."""
    most = max(row["rows"] for row in found)
    lines = [
        FIT.format(rows=most, size=most * 2048 * 4 / 2**30),
        "| method | options | rows | CPU seconds | most held | after |",
        "|---|---|---:|---:|---:|---:|",
    ]
    for row in found:
        options = ", ".join(map(_option, row["options"].items())) or "as they are"
        lines.append(
            f"| `{row['method']}` | {options} | {row['rows']:,} | {row['cpu_seconds']:.0f} | "
            f"{row['peak_MiB'] / 1024:.2f} GiB | {row['after_MiB'] / 1024:.2f} GiB |"
        )
    for text in dict.fromkeys(text for row in found for text in row["warnings"]):
        lines += ["", f"It warned: *{text}*"]
    return lines


def spaced(text: str) -> str:
    """The page with one empty line before each table, and none twice."""
    lines: list[str] = []
    for line in text.split("\n"):
        if line.startswith("|") and lines and lines[-1] and not lines[-1].startswith("|"):
            lines.append("")
        if line or (lines and lines[-1]):
            lines.append(line)
    return "\n".join(lines).rstrip("\n") + "\n"


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
    lines += beside(read("beside"))
    done = [json.loads(p.read_text()) for p in given.folder.glob("fit-*.json")]
    lines += fits(sorted(done, key=lambda row: (-row["rows"], row["method"])))
    given.out.write_text(spaced("\n".join(line.rstrip("\n") for line in lines)))


if __name__ == "__main__":
    main()
