"""Which method for which kind of network: docs/results/kinds.md and the package's copy of it.

python docs/kinds.py [--check]

Figures are read, none is measured here: from the records of benchmarks/kinds_of_network.py
(docs/results/kinds/), and from the tables of text.md, sound.md, bytes.md and table.md.
"""

import json
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from statistics import fmean
from typing import Any

DOCS = Path(__file__).resolve().parent
RESULTS = DOCS / "results"
PAGE = RESULTS / "kinds.md"
COPY = DOCS.parent / "src" / "gradood" / "bench" / "measured.json"
MEASURED = {
    "convolutional": (
        ("densenet101_cifar10", "resnet20_cifar10", "resnet56_cifar10", "thin_resnet18"),
        "DenseNet-101, ResNet-20, ResNet-56 and a thin ResNet-18 on CIFAR-10; five sets of images",
    ),
    "transformer": (("small_vit",), "a small vision transformer on CIFAR-10; the same five sets"),
    "photographs": (
        ("mobilenet_photos",),
        "MobileNet-V2 on 330 ImageNet photographs; scenes and objects of other sets",
    ),
}
TABLES = {
    "text": "MiniLM-L6 fine-tuned on the intents of CLINC150; its questions out of scope",
    "sound": "a network of spoken words; digits, noise, other words",
    "bytes": "a network of file types by their bytes; unknown formats, random bytes",
    "table": "a network of rows of numbers; a class held out",
}
SHOWN = 24
_CELL = re.compile(r"[\d.]+ / ([\d.]+)")


def recorded(networks: tuple[str, ...]) -> dict[str, float]:
    """Mean AUROC in percent over the sets of unknown inputs, then over networks."""
    means: dict[str, list[float]] = {}
    for network in networks:
        record = json.loads((RESULTS / "kinds" / f"{network}.json").read_text(encoding="utf-8"))
        for method, sets in record["auroc"].items():
            means.setdefault(method, []).append(fmean(sets.values()))
    return {m: fmean(values) for m, values in means.items() if len(values) == len(networks)}


def tabled(page: str) -> dict[str, float]:
    """The same, from a table of FPR95 / AUROC."""
    means: dict[str, float] = {}
    for line in page.splitlines():
        name, *cells = [cell.strip() for cell in line.strip("| ").split("|")]
        found = [_CELL.match(cell) for cell in cells]
        if found and all(found):
            means[name] = fmean(float(match[1]) for match in found if match)
    return means


def gathered() -> dict[str, Any]:
    """By kind: what the networks are, and AUROC by method, the highest first."""

    def ranked(auroc: Mapping[str, float]) -> dict[str, float]:
        order = sorted(auroc, key=lambda method: (-auroc[method], method))
        return {method: round(auroc[method], 1) for method in order}

    return {
        **{
            kind: {"networks": told, "auroc": ranked(recorded(networks))}
            for kind, (networks, told) in MEASURED.items()
        },
        **{
            kind: {
                "networks": told,
                "auroc": ranked(tabled((RESULTS / f"{kind}.md").read_text(encoding="utf-8"))),
            }
            for kind, told in TABLES.items()
        },
    }


def page(found: Mapping[str, Any]) -> Iterator[str]:
    """The lines of the page."""
    aurocs: dict[str, dict[str, float]] = {k: entry["auroc"] for k, entry in found.items()}
    yield "<!-- Made by docs/kinds.py from the other pages of results. -->\n"
    yield "# Which method for which kind of network\n"
    yield (
        "Mean AUROC in percent over the sets of unknown inputs, then over networks. One kind is "
        "mostly one network, with settings left automatic: read it as where to begin, and measure "
        "on your own (`gradood bench`). In the shell: `gradood methods --kind text`.\n"
    )
    yield "| kind | networks and unknown inputs | best | `energy` | `msp` |"
    yield "|---|---|---|---:|---:|"
    for kind, auroc in aurocs.items():
        best = ", ".join(f"`{m}` {auroc[m]:.1f}" for m in [*auroc][:3])
        told = found[kind]["networks"]
        yield f"| {kind} | {told} | {best} | {auroc['energy']:.1f} | {auroc['msp']:.1f} |"
    common = set.intersection(*(set(auroc) for auroc in aurocs.values()))
    short = {m: max(next(iter(a.values())) - a[m] for a in aurocs.values()) for m in common}
    yield (
        "\n## Methods measured on every kind\n\nSorted by *short*: the most points of AUROC that a "
        "method is behind the best of a kind. It was read off these outliers: it describes them, "
        "and promises nothing.\n"
    )
    yield f"| method | {' | '.join(aurocs)} | short |"
    yield "|---|" + "---:|" * (len(aurocs) + 1)
    for method in sorted(short, key=lambda m: (short[m], m))[:SHOWN]:
        values = " | ".join(f"{auroc[method]:.1f}" for auroc in aurocs.values())
        yield f"| `{method}` | {values} | {short[method]:.1f} |"
    yield (
        "\nThe first three kinds: `benchmarks/kinds_of_network.py` on features read once, methods "
        "of features, logits and head alone, fitted on 4,000 to 5,000 training images (330 "
        "held-out photographs), tested on 1,000 to 2,000 (495) others and 500 to 1,000 of each "
        "unknown set. "
        "The others are from [text](text.md), [sound](sound.md), [bytes](bytes.md) and "
        "[table](table.md), which say what was fitted and tested on what."
    )


def main() -> int:
    """Write the page and its copy, or with ``--check`` say whether they are today's."""
    found = gathered()
    texts = {
        PAGE: "\n".join(page(found)) + "\n",
        COPY: json.dumps(found, indent=1, ensure_ascii=False) + "\n",
    }
    if "--check" in sys.argv:
        return int(any(file.read_text(encoding="utf-8") != text for file, text in texts.items()))
    for file, text in texts.items():
        file.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
