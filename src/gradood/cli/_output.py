"""Data on stdout, messages on stderr, and files, which are replaced as a whole."""

import json
import logging
import sys
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from gradood._io.markdown import aligned
from gradood.cli._exits import Unavailable, in_shell_words
from gradood.errors import GradoodWarning

__all__ = [
    "aligned",
    "data",
    "document",
    "document_text",
    "in_bytes",
    "pairs",
    "passed_over",
    "say",
    "talking",
    "write_file",
    "writing",
]


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


def pairs(values: Mapping[str, str]) -> str:
    """Names and values in two columns."""
    width = max(map(len, values))
    return "\n".join(f"{name:{width}}  {value}" for name, value in values.items())


def passed_over(counts: Mapping[str, int]) -> str:
    """Files that are no images, by the end of their names, and what to do about some.

    >>> passed_over({".heic": 9, ".json": 1})[:22]
    '9 .heic, 1 .json (HEIC'
    """
    told = ", ".join(f"{count:,} {end}" for end, count in counts.items())
    advice = [text for ends, text in _ADVICE if any(end in counts for end in ends)]
    return told + (f" ({'; '.join(advice)})" if advice else "")


_ADVICE = (
    (
        (".heic", ".heif", ".hif"),
        "HEIC is read once pillow-heif is installed: pip install pillow-heif",
    ),
    ((".dcm", ".dicom"), "DICOM is not read: convert it to PNG, with the window that you look at"),
)


def write_file(file: Path, text: str) -> None:
    """Write a text file, as a whole or not at all.

    A device or a pipe, such as /dev/stdout, is written to as it is.

    Raises:
        Unavailable: it cannot be written.
    """
    from gradood._io.atomic import write

    with writing(file):
        write(file, text)


@contextmanager
def writing(file: Path) -> Iterator[None]:
    """A block that writes a file or a folder.

    Raises:
        Unavailable: it cannot be written.
    """
    try:
        yield
    except OSError as error:
        why = error.strerror or error
        raise Unavailable(f"{str(file)!r} cannot be written: {why}.") from error


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
        return f"{record.levelname.lower()}: {in_shell_words(record.getMessage())}"


def _shown(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    say(f"warning: {' '.join(in_shell_words(str(message)).split())}")
