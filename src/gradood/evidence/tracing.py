"""Whether a computation is being traced, for a graph that holds for every batch.

A graph has no loop whose length the data decides, and no branch on a value. Where an eager form has
such, a function asks `tracing` and takes a dense form of the same number.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

__all__ = ["traced", "tracing"]

_TRACING: ContextVar[bool] = ContextVar("tracing", default=False)


def tracing() -> bool:
    """Whether the caller is inside `traced`."""
    return _TRACING.get()


@contextmanager
def traced() -> Iterator[None]:
    """Dense forms, for as long as the block lasts."""
    token = _TRACING.set(True)
    try:
        yield
    finally:
        _TRACING.reset(token)
