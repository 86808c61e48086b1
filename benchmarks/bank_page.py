"""The page of the banks: `python benchmarks/bank_page.py FOLDER --out docs/results/banks.md`.

FOLDER holds `choice.json`, `resnet20.json`, `forward.json` and `fit-*.json`, as the steps of
`banks.py` wrote them, `choice-guides.json` of `bank_choice.py`, and `large-*.json` of
`bank_large.py`.
"""

import argparse
import json
from pathlib import Path
from statistics import median
from typing import Any

HEAD = """# Bounded banks

What detectors lose that keep a part of the fit samples, or keep them in fewer bits (ADR 0051,
[large fits](../banks.md)). AUROC in percent; a difference is the bounded form's less the exact
one's. Rates are per second of the CPU, of one thread, on a machine whose two cores ten to twenty
other processes shared.

    python benchmarks/banks.py features R20
    python benchmarks/banks.py choose R20 CACHES.. --out FOLDER/choice.json
    python benchmarks/bank_choice.py R20 CACHES.. --out FOLDER/choice-guides.json
    python benchmarks/banks.py measure R20 --out FOLDER/resnet20.json
    python benchmarks/banks.py draw BIG
    python benchmarks/bank_large.py BIG exact logits space beside --out FOLDER
    python benchmarks/banks.py forward --out FOLDER/forward.json
    python benchmarks/banks.py fit BIG --method knn --out FOLDER/fit-knn.json  # and the others
    python benchmarks/bank_page.py FOLDER --out docs/results/banks.md
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
GUIDES = """
### Guides and gradients

The same for `nnguide` with all samples as guides, and for `grood`, also chosen on sets that are not
reported below. `grood` in codes has codes of the features in a fit, and codes of the gradients that
are made of those in the end: both losses are in the table. Four bits differ least from the exact
form for both, and are nowhere below it by more than 0.2, where the other forms are by up to 2.7;
they take the memory of an eighth of the samples, and a length for each.
"""
NETWORK = """
## ResNet-20, 50,000 training images of CIFAR-10

1,500 images of each set (1,200 textures). `k` is 50 for `knn`. `grood` with the class means as
prototype, all on the last layer alone. Memory is that of the state; `vim` and `open-max` have a
small one, and there it is that of what a fit keeps:

| method | kept, exactly | kept, bounded |
|---|---|---|
| `knn` | all directions in float32, and lengths | all, in 4 or 8 bits per number, or a part |
| `grood` | all gradients in float32, and lengths | all or a part, in 4 or 8 bits per number |
| `nnguide` | all directions, times a confidence; of the share `alpha`, 1 % by default | likewise |
| `vim` | moments; all features until α is known | moments; for α, a part |
| `open-max` | all logits until the fit ends | class means of all; of each class the farthest |

A part is chosen by a hash of the content. The farthest logits of `open-max` hold the tails that
are fitted, which are therefore those of all samples, whatever the part is.
"""
BIG = """
## {rows:,} × {width:,} drawn features

Positive features about {classes:,} centers, in 32 directions of eight kinds and noise; outliers
about other centers, of whose square a tenth (near) or a quarter (far) is new. The head has the
class means as weights. {queries} queries of each set, the same for every form; ± is the standard
error of the difference, which is taken on the same queries. The exact form reads the file of
9.8 GiB as it lies on disk; of logits, one of 4.8 GiB. `nnguide` has all samples as guides (of its
default share of 1 % nothing is bounded at this size), `grood` the class means as prototype. What is
reported was not chosen on: the seed is another one than above.
"""
UNFINISHED = """
These are the first {rows:,} of the file's {of:,} rows: the run had come that far, and this page is
to be made again. Codes are here of all of these rows, not of 99 %: 1/7.97 of the memory for
`nnguide`, 1/7.95 for `grood`. `vim` and `open-max` come later. The rates below are of an earlier
run of `knn` alone, with all rows.
"""
MEMORY = """
Memory is that of the samples in float32, with lengths where a method keeps some. In codes,
`nnguide` and `grood` keep 99 % of the rows, so that all with the lengths is at most an eighth; a
neighbor k of a part of the samples is k times that part. `vim` needs samples in a fit alone, for
its factor α, and `open-max` for the tails of its classes: their principal space and class means are
of all samples in any form. (Here the space was learned from an eighth, the same for both forms.)
"""
FORWARD = """
A network of the layers of ResNet-50 (random weights, {size:.1f} thousand million multiplications)
makes {alone:.1f} images a second alone and {many:.1f} in batches of 16, by the same clock.
"""
BESIDE = """
### In turns with a forward pass

{together} queries of the set above and 16 images of 224 × 224, {rounds} rounds of each, one after
the other in one process and thread: the median per second of the CPU, and of the clock on the
shared machine. The exact form is memory-mapped.
"""
TURNS = """
An eighth of the samples is searched about eight times as fast as all of them, exact or coded, and
loses what the table above says: where time counts more than that, name `samples`.
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


def guides(found: dict[str, Any]) -> list[str]:
    """The tables of forms of guides and gradients."""
    lines = [GUIDES]
    for method in ("nnguide", "grood"):
        forms = [form for form in next(iter(found.values()))[method] if form != "exact"]
        lines += ["", f"| `{method}` | exact | {' | '.join(forms)} |"]
        lines.append("|---|---:|" + "---:|" * len(forms))
        for name, methods in found.items():
            each = methods[method]
            cells = [f"{sum(each['exact'].values()) / len(each['exact']):.1f}"]
            for form in forms:
                cells.append("{:+.2f} ({:+.2f})".format(*difference(each["exact"], each[form])))
            lines.append(f"| {name} | {' | '.join(cells)} |")
    return lines


KEPT = 0.99
STEPS = ("exact", "logits", "space", "beside")
"""As in `bank_large.py`."""


def large(steps: dict[str, dict[str, Any]], forward: dict[str, Any]) -> list[str]:
    """The table of methods on the large set, as far as its steps have ended."""
    facts = steps["exact"]
    rows, width, classes = (facts[name] for name in ("rows", "width", "classes"))
    exact, eighth = 4 * width, "an eighth of the samples"
    coded, sample = facts["coded"], facts["sample"]
    columns = [
        ("knn", "all, 4 bits", exact + 8, width / 2, coded["knn"]),
        ("knn", eighth, exact + 8, width / 2 + 1, sample["knn"]),
        ("nnguide", "4 bits", exact, KEPT * (width / 2 + 4), coded["nnguide"]),
        ("nnguide", eighth, exact, width / 2, sample["nnguide"]),
        ("grood", "4 bits", exact + 8, KEPT * (width / 2 + 8), coded["grood"]),
        ("grood", eighth, exact + 8, width / 2 + 1, sample["grood"]),
    ]
    if "space" in steps:
        columns.append(("vim", f"{eighth}, for α", exact, width / 2, steps["space"]["vim"]))
    if "logits" in steps:
        found = steps["logits"]
        held = 4 * classes * found["kept"] / found["rows"]
        bound = "the farthest eighth of each class"
        columns.append(("open-max", bound, 4 * classes, held, found["open-max"]))
    lines = [
        BIG.format(**facts),
        UNFINISHED.format(**facts) if "of" in facts else "",
        "| method | bound | memory | near | far |",
        "|---|---|---:|---:|---:|",
    ]
    for method, bound, whole, held, sets in columns:
        cells = [
            f"{s['exact']:.2f} {s['bounded'] - s['exact']:+.2f} ± {s['standard_error']:.2f}"
            for s in (sets["near"], sets["far"])
        ]
        size, less = whole * rows / 2**30, held * rows / 2**30
        memory = f"{size:.2f} → {less:.2f} GiB (1/{whole / held:.2f})"
        lines.append(f"| `{method}` | {bound} | {memory} | {' | '.join(cells)} |")
    lines.append(MEMORY)
    if "beside" in steps:
        lines += [*beside(steps["beside"]), TURNS]
    speed, size = forward["images_per_second"], forward["multiplications"] / 1e9
    return [*lines, FORWARD.format(size=size, alone=speed["batch 1"], many=speed["batch 16"])]


def beside(found: dict[str, Any]) -> list[str]:
    """The table of searches beside a forward pass."""
    rounds = found["per_second_of_cpu_and_of_clock"]
    names = sorted(rounds)
    turns = len(rounds["knn, exact"])
    lines = [BESIDE.format(rounds=turns, together=found["together"])]
    lines += ["| | per second of the CPU | of the clock | a query costs |", "|---|---:|---:|---:|"]
    image = median(cpu for cpu, _ in rounds[names[0]])
    for name in names:
        cpu, clock = (median(pair[place] for pair in rounds[name]) for place in (0, 1))
        share = image / cpu
        cost = f"{share:.1f} images" if share >= 0.05 else f"{share:.1g} images"
        cost = "1 image" if name == names[0] else cost
        lines.append(f"| {name} | {cpu:,.1f} | {clock:,.1f} | {cost} |")
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

    lines = [HEAD, *choice(read("choice")), *guides(read("choice-guides"))]
    lines += network(read("resnet20"))
    files = {name: given.folder / f"large-{name}.json" for name in STEPS}
    steps = {name: json.loads(file.read_text()) for name, file in files.items() if file.exists()}
    lines += large(steps, read("forward"))
    done = [json.loads(p.read_text()) for p in given.folder.glob("fit-*.json")]
    lines += fits(sorted(done, key=lambda row: (-row["rows"], row["method"])))
    given.out.write_text(spaced("\n".join(line.rstrip("\n") for line in lines)))


if __name__ == "__main__":
    main()
