"""Content keys of inputs: a sample is recognized again in any batch, shard or order."""

from functools import lru_cache
from hashlib import sha256

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gradood.taps import Inputs, attended, is_mask, left_aligned, sequences

__all__ = ["content_keys"]

_MULTIPLIER = 0x9E3779B97F4A7C15 - (1 << 64)
_CHUNK = 1 << 22
_KEPT = 1 << 18  # Words of a row whose weights are kept: 2 MiB.


def content_keys(x: Inputs) -> Tensor:
    """A 64-bit hash of each row's bytes.

    Integer arithmetic modulo 2**64, so the result does not depend on batch, device or order of
    summation. It guards against accidents, not against adversaries.

    Of arguments with a mask, only the positions that count are hashed, so that a row has the same
    key however it is padded.

    Args:
        x: inputs of any dtype.

    Returns:
        (batch,) int64 on the device of `x`.

    Cost:
        One pass over `x`.
    """
    if isinstance(x, Tensor):
        return _mix(_sums(x.detach()))
    mask = attended(x)
    aligned = {} if mask is None else sequences(x, mask.shape[1])
    total = torch.zeros(len(x), dtype=torch.int64, device=x.device)
    for name, leaf in x.leaves.items():
        if mask is not None and is_mask(name):
            continue
        own = _sums(leaf.detach(), mask if name in aligned else None).to(x.device)
        total += _mix(own ^ _named(name))
    if mask is not None:
        total += _mix(mask.sum(1) * _MULTIPLIER)
        holes = mask.cummax(1).values & mask.flip(1).cummax(1).values.flip(1) & ~mask
        if bool(holes.any()):
            total += _mix(_sums(left_aligned(mask, mask | holes), None))
    return _mix(total)


def _sums(x: Tensor, mask: Tensor | None = None) -> Tensor:
    """(batch,) sums of each row's words, weighted by their places.

    Args:
        x: (batch, …).
        mask: (batch, length) bool; which of its positions count, all where it is None.
    """
    if mask is not None:
        x = left_aligned(x, mask)
    flat = x.contiguous().flatten(1) if x.ndim > 1 else x[:, None]
    size = flat.element_size()
    if size in (4, 8):
        words = flat.view(torch.int32)
    elif size == 2:
        words = flat.view(torch.int16)
    else:
        words = flat.view(torch.uint8)
    count = words.shape[1]
    known = _kept_weights if count <= _KEPT else _weights
    weights = torch.from_numpy(known(count)).to(x.device)
    if mask is not None:
        each = words.shape[1] // max(1, mask.shape[1])
        counted = torch.arange(words.shape[1], device=x.device) < each * mask.sum(1)[:, None]
        words = words.where(counted, 0)
    rows = max(1, _CHUNK // max(1, words.shape[1]))
    sums = [(part.to(torch.int64) * weights).sum(1) for part in words.split(rows)]
    return torch.cat(sums) if sums else words.new_empty(0, dtype=torch.int64)


def _weights(count: int) -> NDArray[np.int64]:
    """(count,) odd weights of the places of a row's words."""
    return (_mix(torch.arange(1, count + 1, device="cpu") * _MULTIPLIER) | 1).numpy()


_kept_weights = lru_cache(maxsize=4)(_weights)  # Not as tensors: these belong to a mode.


def _named(name: str) -> int:
    """A number of a name, the same in any process."""
    return int.from_bytes(sha256(name.encode()).digest()[:8], "little", signed=True)


def _mix(keys: Tensor) -> Tensor:
    """Spread every bit of a key over all of it (a bijection on int64)."""
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        keys = (keys ^ ((keys >> shift) & ((1 << (64 - shift)) - 1))) * (factor - (1 << 64))
    return keys ^ ((keys >> 31) & ((1 << 33) - 1))
