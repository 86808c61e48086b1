"""Products of float32 matrices in float32, whatever the user allows for the model."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

__all__ = ["full_products"]

_LOCK = threading.Lock()
_INSIDE: list[Callable[[], None]] = []
"""One entry for each thread inside; the first restores the user's switches after the last."""


@contextmanager
def full_products() -> Iterator[None]:
    """No TF32 or bfloat16 inside: an exact search would take the wrong neighbors for the nearest.

    The switch is torch's global one, and is touched only where the user has lowered it; it returns
    when the last of several threads that search at once has finished. A model that another thread
    runs meanwhile is computed in full float32 too.
    """
    with _LOCK:
        _INSIDE.append(_raised() if not _INSIDE else _INSIDE[0])
    try:
        yield
    finally:
        with _LOCK:
            restore = _INSIDE.pop()
            if not _INSIDE:
                restore()


def _raised() -> Callable[[], None]:
    """Switch to full precision; gives what switches back."""
    try:
        before = torch.get_float32_matmul_precision()
    except RuntimeError:
        # Lowered by backend, through the newer switches that cannot be read through the old one.
        return _raised_by_backend()
    if before == "highest":
        return lambda: None
    torch.set_float32_matmul_precision("highest")
    return lambda: torch.set_float32_matmul_precision(before)


def _raised_by_backend() -> Callable[[], None]:
    places = (torch.backends.cuda.matmul, torch.backends.mkldnn.matmul)  # type: ignore[attr-defined]
    before = [place.fp32_precision for place in places]

    def restore() -> None:
        for place, precision in zip(places, before, strict=True):
            place.fp32_precision = precision

    try:
        for place in places:
            place.fp32_precision = "ieee"
    except BaseException:
        restore()
        raise
    return restore
