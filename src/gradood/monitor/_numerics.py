"""The numerical settings that surround a forward: autocast, and the precision of float32 products.

They are of the process or of a block of code, not of the model, so that no fingerprint sees them.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import torch

from gradood.artifact import NumericsRecord

__all__ = ["applied_autocast", "numerics"]


def numerics(device: torch.device) -> NumericsRecord:
    """The settings under which a model on a device would be run here and now.

    Args:
        device: of the model.

    Cost: a few microseconds.
    """
    kind = device.type
    autocast = None
    if torch.is_autocast_enabled(kind):
        autocast = str(torch.get_autocast_dtype(kind)).removeprefix("torch.")
    of_products, of_convolutions = _switches(kind)
    return _record(
        kind,
        autocast,
        _precision(of_products, torch.backends),
        _precision(of_convolutions, torch.backends),
    )


@lru_cache(maxsize=64)
def _record(kind: str, autocast: str | None, products: str, convolutions: str) -> NumericsRecord:
    return NumericsRecord(
        device=kind,
        autocast=autocast,
        float32_matmul=products,
        float32_convolution=convolutions,
    )


@lru_cache(maxsize=8)
def _switches(kind: str) -> tuple[Any, Any]:
    """Where torch holds the precisions of products and of convolutions on a kind of device."""
    backends: Any = torch.backends
    of_products, of_convolutions = backends.mkldnn, backends.mkldnn
    if kind == "cuda":
        of_products, of_convolutions = backends.cuda, backends.cudnn
    return getattr(of_products, "matmul", None), getattr(of_convolutions, "conv", None)


def _precision(*places: Any) -> str:
    """The first precision that is set; full where none is, or torch is older than these switches.

    Args:
        places: that may have one, the most particular first.
    """
    for place in places:
        precision = getattr(place, "fp32_precision", "none")
        if precision != "none":
            return str(precision)
    return "ieee"


@contextmanager
def applied_autocast(record: NumericsRecord | None, device: torch.device) -> Iterator[None]:
    """The autocast of earlier settings inside, whatever it is outside.

    Args:
        record: the settings; None leaves autocast as it is.
        device: of the model.
    """
    if record is None or record.autocast == numerics(device).autocast:
        yield
        return
    enabled = record.autocast is not None
    dtype = getattr(torch, record.autocast) if record.autocast is not None else None
    with torch.autocast(device.type, dtype=dtype, enabled=enabled):
        yield
