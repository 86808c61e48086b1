"""Names of the places in a network where a tensor can be read."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

__all__ = ["Site", "channel_dim", "positions"]


@dataclass(frozen=True, slots=True)
class Site:
    """One tensor of a forward pass: what a layer takes or gives, at one of its calls.

    Attributes:
        layer: module name as in `named_modules()` of the unwrapped model.
        port: ``"output"``, or ``"input"`` (the first tensor argument).
        call: which call of that layer within one forward, from 0.
    """

    layer: str
    port: Literal["output", "input"] = "output"
    call: int = 0

    def __str__(self) -> str:
        port = "" if self.port == "output" else f" ({self.port})"
        call = "" if self.call == 0 else f" (call {self.call})"
        return f"{self.layer}{port}{call}"


def channel_dim(module: nn.Module, tensor: Tensor) -> int:
    """Which dimension of a layer's output holds the channels.

    Token tensors (batch, tokens, width) and layers that normalize the last dimension have them
    last; everything else has them second, as convolutions do.

    Args:
        module: the layer.
        tensor: what it gave.
    """
    if tensor.ndim <= 2:
        return tensor.ndim - 1
    shape = getattr(module, "normalized_shape", None)
    if shape is not None and len(tuple(shape)) == 1:
        last, second = tensor.shape[-1], tensor.shape[1]
        if last == shape[0] and (second != shape[0] or type(module) in _LAST):
            return tensor.ndim - 1
        return 1
    if isinstance(module, nn.modules.batchnorm._NormBase | nn.GroupNorm):
        return 1
    return tensor.ndim - 1 if tensor.ndim == 3 else 1


_LAST = tuple(t for t in (nn.LayerNorm, getattr(nn, "RMSNorm", None)) if t is not None)


def positions(tensor: Tensor, channels: int) -> Tensor:
    """`tensor` as (batch, channels, positions), without a copy where strides allow.

    Args:
        tensor: (batch, …) with the channels in dimension `channels`.
        channels: that dimension.
    """
    if tensor.ndim == 1:
        return tensor[:, None, None]
    if tensor.ndim == 2:
        return tensor.unsqueeze(-1)
    return torch.movedim(tensor, channels, 1).flatten(2)
