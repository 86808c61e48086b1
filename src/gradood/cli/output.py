"""What goes where: stdout is data, stderr is messages."""

import json
import logging
import re
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO

from gradood.errors import GradoodWarning

__all__ = ["aligned", "data", "document", "document_text", "in_bytes", "say", "talking"]


def data(text: str) -> None:
    """Text that was asked for."""
    sys.stdout.write(text if text.endswith("\n") else text + "\n")


def document(value: Any) -> None:
    """The one JSON document of a command called with ``--json``."""
    from gradood.bench import json_text

    data(json_text(value))


def document_text(value: Any) -> str:
    """A JSON document of values that are plain already; unlike `document`, loads no torch."""
    return json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def say(text: str) -> None:
    """A message beside the data."""
    print(text, file=sys.stderr, flush=True)


_BAR = re.compile(r"(?<!\\)\|")


def in_bytes(size: int) -> str:
    """A size in a unit that fits.

    >>> in_bytes(0), in_bytes(999_949), in_bytes(999_950), in_bytes(2_345_000_000_000_000)
    ('0 B', '999.9 kB', '1.0 MB', '2345.0 TB')
    """
    if size < 1000:
        return f"{size} B"
    value, units = size / 1000, ["kB", "MB", "GB", "TB"]
    while value >= 999.95 and len(units) > 1:
        value, units = value / 1000, units[1:]
    return f"{value:.1f} {units[0]}"


def aligned(markdown: str) -> str:
    """A table in Markdown with its columns in line; the first to the left, others to the right."""
    rows = [
        [cell.strip() for cell in _BAR.split(line.strip().strip("|"))]
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
        cells = [name.ljust(width), *(cell.rjust(width) for cell, width in others)]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


@contextmanager
def talking() -> Iterator[None]:
    """Warnings and log records become lines on stderr, and no character stops the output."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")
    handler = logging.StreamHandler(sys.stderr)
    handler.setLevel(logging.WARNING)
    handler.setFormatter(_Lowered())
    logger = logging.getLogger("gradood")
    logger.addHandler(handler)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("always", GradoodWarning)
            warnings.showwarning = _shown
            yield
    finally:
        logger.removeHandler(handler)


class _Lowered(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return f"{record.levelname.lower()}: {record.getMessage()}"


def _shown(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    say(f"warning: {' '.join(str(message).split())}")
