"""The README's table of DenseNet-101, from docs/results/densenet101.md.

python docs/readme_table.py [--check]
"""

import re
import sys
from pathlib import Path

DOCS = Path(__file__).resolve().parent
README = DOCS.parent / "README.md"
SETS = {"svhn": "SVHN", "textures10": "textures", "cifar100": "CIFAR-100", "mean": "mean of five"}
METHODS = (
    "msp", "energy", "gradnorm", "gaia-z", "gaia-a", "line", "grood",
    "knn", "mahalanobis++", "nci", "cadref", "actsub",
)  # fmt: skip
_TABLE = re.compile(r"(?<=<!-- densenet101 -->\n).*?(?=<!-- end -->)", re.DOTALL)


def cells(line: str) -> list[str]:
    """Cells of a row of a Markdown table."""
    return [cell.strip() for cell in line.strip().strip("|").split("|")]


def table(page: str) -> str:
    """The chosen rows and columns of the page's first table: FPR95 / AUROC with one decimal."""
    lines = [line for line in page.splitlines() if line.startswith("|")]
    names = cells(lines[0])
    rows = {cells(line)[0]: cells(line) for line in lines[2:]}
    shown = ["| | " + " | ".join(SETS.values()) + " |", "|---|" + "---|" * len(SETS)]
    for method in METHODS:
        pairs = (rows[method][names.index(name)].split(" / ") for name in SETS)
        values = (" / ".join(f"{float(value):.1f}" for value in pair) for pair in pairs)
        shown.append(f"| `{method}` | " + " | ".join(values) + " |")
    return "\n".join(shown) + "\n"


def updated(readme: str) -> str:
    """The README with the table of today's results."""
    rows = table((DOCS / "results" / "densenet101.md").read_text(encoding="utf-8"))
    return _TABLE.sub(lambda _: rows, readme)


def main() -> int:
    """Write the table, or with ``--check`` say whether it is today's."""
    readme = README.read_text(encoding="utf-8")
    if "--check" in sys.argv:
        return int(updated(readme) != readme)
    README.write_text(updated(readme), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
