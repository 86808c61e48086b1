"""Tensors as bytes, for hashes and files that do not depend on the machine."""

import sys

import numpy as np
import torch
from torch import Tensor

__all__ = ["little_endian"]


def little_endian(tensor: Tensor) -> memoryview:
    """The bytes of a dense tensor: C order, little-endian."""
    flat = tensor.detach().resolve_conj().resolve_neg().cpu().contiguous().reshape(-1)
    raw = flat.view(torch.uint8).numpy() if flat.numel() else np.empty(0, np.uint8)
    # A complex number is two, each of which has its own order of bytes.
    width = tensor.element_size() // (2 if tensor.is_complex() else 1)
    if sys.byteorder == "big" and width > 1:
        raw = raw.reshape(-1, width)[:, ::-1].copy().reshape(-1)
    return raw.data.cast("B")
