"""Reading from folders by Transformers: nothing is fetched, run or printed."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["LOCAL", "first_line", "silent"]

LOCAL = {"local_files_only": True, "trust_remote_code": False}
"""Options of every ``from_pretrained``."""


@contextmanager
def silent(transformers: Any) -> Iterator[None]:
    """What it says and draws while loading becomes an error here, or is of no use."""
    logging = transformers.utils.logging
    level, bar = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity(logging.CRITICAL)
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bar:
            logging.enable_progress_bar()


def first_line(error: BaseException) -> str:
    """What an error says first."""
    return (str(error).strip().splitlines() or [""])[0].rstrip(".")
