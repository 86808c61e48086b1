"""Tables in HTML, for notebooks."""

from collections.abc import Iterable, Sequence
from html import escape

__all__ = ["paragraph", "table"]


def paragraph(text: str) -> str:
    """A text, whatever characters are in it.

    >>> paragraph("a < b")
    '<p>a &lt; b</p>'
    """
    return f"<p>{escape(text)}</p>"


def table(header: Sequence[str], rows: Iterable[Sequence[str]], *, text_columns: int = 1) -> str:
    """A table without styles of its own; cells are texts, whatever characters are in them.

    Args:
        header: the titles of the columns.
        rows: their cells.
        text_columns: how many of the first columns are aligned to the left; the others, which
            hold numbers, are aligned to the right.

    >>> table(["method"], [["a<b"]])
    '<table><thead><tr><th style="text-align:left">method</th></tr></thead>...</table>'
    """

    def line(cells: Sequence[str], tag: str) -> str:
        sides = ["left" if i < text_columns else "right" for i in range(len(cells))]
        parts = zip(sides, cells, strict=True)
        made = (f'<{tag} style="text-align:{side}">{escape(c)}</{tag}>' for side, c in parts)
        return f"<tr>{''.join(made)}</tr>"

    body = "".join(line(cells, "td") for cells in rows)
    return f"<table><thead>{line(header, 'th')}</thead><tbody>{body}</tbody></table>"
