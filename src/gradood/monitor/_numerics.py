"""The numerical settings that surround a forward: autocast, and the precision of float32 products.

They are of the process or of a block of code, not of the model, so that no fingerprint sees them.
"""

from collections.abc import Iterator
from contextlib import contextmanager
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
    backends: Any = torch.backends
    places = [backends.mkldnn.matmul, backends.mkldnn.conv]
    if kind == "cuda":
        places = [backends.cuda.matmul, backends.cudnn.conv]
    # "none" is whatever is set for all, and that is full precision if nothing is.
    general = backends.fp32_precision
    matmul, convolution = (
        next((str(p) for p in (place.fp32_precision, general) if p != "none"), "ieee")
        for place in places
    )
    return NumericsRecord(
        device=kind, autocast=autocast, float32_matmul=matmul, float32_convolution=convolution
    )


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
