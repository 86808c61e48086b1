"""Warnings that are ignored for a while, by one filter that is taken away again."""

import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

__all__ = ["ignored"]


@contextmanager
def ignored(category: type[Warning], *, message: str = "", module: str = "") -> Iterator[None]:
    """Warnings of a kind are not shown inside.

    Filters are of the process: of a kind, other threads show none meanwhile either. One filter is
    added, and that one is taken away again. `warnings.catch_warnings` would put back all filters,
    so that of two threads that leave in another order than they entered, one would keep the
    filters of the other for good.

    Args:
        category: of the warnings.
        message: regular expression of their beginning; all if empty.
        module: regular expression of the name of the module that they are told of; all if empty.
    """
    texts = [re.compile(text, re.IGNORECASE) if text else None for text in (message, module)]
    entry = ("ignore", texts[0], category, texts[1], 0)
    entered: Any = warnings.filters
    entered.insert(0, entry)
    try:
        yield
    finally:
        current: Any = warnings.filters
        for filters in (entered,) if current is entered else (entered, current):
            with suppress(ValueError):  # The user may have reset them.
                filters.remove(entry)
