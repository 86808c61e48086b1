"""Tables in Markdown."""

import re
from collections.abc import Iterable, Sequence

__all__ = ["aligned", "cell", "table"]

_BAR = re.compile(r"(?<!\\)\|")


def cell(text: str) -> str:
    """A text as one cell of a table, whatever characters are in it.

    >>> cell("a|b\\nc")
    'a\\\\|b c'
    """
    return " ".join(text.split()).replace("|", "\\|")


def table(header: Sequence[str], rows: Iterable[Sequence[str]], *, text_columns: int = 1) -> str:
    """A table, one line of Markdown per row.

    Args:
        header: the titles of the columns.
        rows: their cells, already escaped where they may hold a bar (`cell`).
        text_columns: how many of the first columns are aligned to the left; the others, which
            hold numbers, are aligned to the right.

    >>> print(table(["method", "AUROC"], [["energy", "93.1"]]))
    | method | AUROC |
    | --- | ---: |
    | energy | 93.1 |
    """
    rule = ["---" if i < text_columns else "---:" for i in range(len(header))]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (header, rule, *rows))


def aligned(markdown: str) -> str:
    """A table with its columns in line; the first to the left, the others to the right.

    >>> print(aligned(table(["method", "AUROC"], [["energy", "93.1"]])))
    | method | AUROC |
    | ------ | ----: |
    | energy |  93.1 |
    """
    rows = [
        [content.strip() for content in _BAR.split(line.strip().strip("|"))]
        for line in markdown.strip("\n").split("\n")
    ]
    rule = next((i for i, row in enumerate(rows) if set("".join(row)) <= set("-:")), None)
    widths = [
        max(3, *(len(row[column]) for i, row in enumerate(rows) if i != rule))
        for column in range(len(rows[0]))
    ]
    if rule is not None:
        rows[rule] = ["-" * w if i == 0 else "-" * (w - 1) + ":" for i, w in enumerate(widths)]
    lines = []
    for row in rows:
        (name, width), *others = zip(row, widths, strict=True)
        cells = [name.ljust(width), *(content.rjust(size) for content, size in others)]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)
