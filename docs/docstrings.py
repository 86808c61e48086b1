"""Docstrings of gradood as reStructuredText.

They are written to be read in the source: citations are keys in brackets, and `|`, `*` and a
trailing underscore mean themselves.
"""

import re
from typing import Any

from gradood._bibliography import CITATION, bibliography

__all__ = ["prepare", "process", "restructured"]

_LITERAL = re.compile(r"(^ *>>> .*?(?:\n *$|\Z)|``.+?``|`[^`]+`(?:__?)?)", re.DOTALL | re.MULTILINE)
"""Examples up to an empty line, code, and names."""

_SECTION = re.compile(r"^( *)Class attributes\b.*:$")
_SPECIAL = re.compile(r"\||(?<![\\*])\*(?!\*)|(?<=\w)_(?!\w)")


def prepare(app: Any, what: str, name: str, value: Any, options: Any, lines: list[str]) -> None:
    """Give sections the names that napoleon knows; a handler that comes before it."""
    lines[:] = [_SECTION.sub(r"\1Attributes:", line) for line in lines]


def process(app: Any, what: str, name: str, value: Any, options: Any, lines: list[str]) -> None:
    """Change the lines of a docstring in place; a handler of ``autodoc-process-docstring``."""
    own = getattr(value, "__module__", None) or ""
    if what == "data" and _of_its_class(value, lines):
        lines.clear()
    elif what in ("method", "property", "attribute") and not own.startswith("gradood"):
        del lines[
            1:
        ]  # A method of a foreign base: its first line is enough, its links are not ours.
    lines[:] = restructured("\n".join(lines)).split("\n")


def restructured(text: str) -> str:
    """Text with citations as links, and with signs that mean themselves escaped."""
    parts = _LITERAL.split(text)
    parts[::2] = [CITATION.sub(_cited, _SPECIAL.sub(r"\\\g<0>", part)) for part in parts[::2]]
    return "".join(parts)


def _cited(found: re.Match[str]) -> str:
    known = bibliography().get(found[1])
    return f"(`{known.short} <{known.url}>`__)" if known else found[0]


def _of_its_class(value: Any, lines: list[str]) -> bool:
    """Whether a constant is told only what its class is."""
    doc = (type(value).__doc__ or "").strip().splitlines()
    return bool(doc) and bool(lines) and doc[0].strip() == lines[0].strip()
