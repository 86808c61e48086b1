"""Products of float32 matrices in float32, whatever the user allows for the model."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

__all__ = ["full_products"]


@contextmanager
def full_products() -> Iterator[None]:
    """No TF32 or bfloat16 inside: an exact search would take the wrong neighbors for the nearest.

    The switch is torch's global one, and is touched only where the user has lowered it.
    """
    try:
        before = torch.get_float32_matmul_precision()
    except RuntimeError:
        # Lowered by backend, through the newer switches that cannot be read through the old one.
        yield from _by_backend()
        return
    if before == "highest":
        yield
        return
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def _by_backend() -> Iterator[None]:
    places = (torch.backends.cuda.matmul, torch.backends.mkldnn.matmul)  # type: ignore[attr-defined]
    before = [place.fp32_precision for place in places]
    try:
        for place in places:
            place.fp32_precision = "ieee"
        yield
    finally:
        for place, precision in zip(places, before, strict=True):
            place.fp32_precision = precision
