"""Content keys of inputs: a sample is recognized again in any batch, shard or order."""

import torch
from torch import Tensor

__all__ = ["content_keys"]

_MULTIPLIER = 0x9E3779B97F4A7C15 - (1 << 64)
_CHUNK = 1 << 22


def content_keys(x: Tensor) -> Tensor:
    """A 64-bit hash of each row's bytes.

    Integer arithmetic modulo 2**64, so the result does not depend on batch, device or order of
    summation. It guards against accidents, not against adversaries.

    Args:
        x: (batch, …) of any dtype.

    Returns:
        (batch,) int64 on the device of `x`.

    Cost:
        One pass over `x`.
    """
    flat = x.detach().contiguous().flatten(1) if x.ndim > 1 else x.detach()[:, None]
    size = flat.element_size()
    if size in (4, 8):
        words = flat.view(torch.int32)
    elif size == 2:
        words = flat.view(torch.int16)
    else:
        words = flat.view(torch.uint8)
    place = torch.arange(1, words.shape[1] + 1, device=x.device) * _MULTIPLIER
    weights = _mix(place) | 1
    rows = max(1, _CHUNK // max(1, words.shape[1]))
    sums = [(part.to(torch.int64) * weights).sum(1) for part in words.split(rows)]
    return _mix(torch.cat(sums)) if sums else words.new_empty(0, dtype=torch.int64)


def _mix(keys: Tensor) -> Tensor:
    """Spread every bit of a key over all of it (a bijection on int64)."""
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        keys = (keys ^ ((keys >> shift) & ((1 << (64 - shift)) - 1))) * (factor - (1 << 64))
    return keys ^ ((keys >> 31) & ((1 << 33) - 1))
