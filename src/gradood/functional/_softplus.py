"""Softplus that a graph in float64 can hold too."""

import torch
from torch import Tensor
from torch.nn import functional as F

from gradood.evidence.tracing import tracing

__all__ = ["softplus"]


def softplus(values: Tensor, threshold: float = 20.0) -> Tensor:
    """``log(1 + eˣ)``; in a graph by its parts, as onnxruntime has it in float32 alone.

    Args:
        values: x, of any shape.
        threshold: above which x itself is returned.
    """
    if tracing():
        return values.clamp_min(0.0) + torch.log1p(torch.exp(-values.abs()))
    return F.softplus(values, threshold=threshold)
