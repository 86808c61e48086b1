"""Names of the places in a network where a tensor can be read."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

__all__ = ["INPUT", "Site", "channel_dim", "is_norm", "mean_over", "positions"]


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
        return f"{self.layer or 'the model'}{port}{call}"


INPUT = Site("", "input")
"""What the whole model is given."""


def channel_dim(module: nn.Module, tensor: Tensor) -> int | None:
    """Which dimension of a layer's output holds the channels, batch included.

    Layers that act on the last dimension have them last; convolutions, pooling and everything on
    maps have them second.

    Args:
        module: the layer.
        tensor: what it gave.

    Returns:
        None where the layer does not tell: (batch, tokens, width) or (batch, channels, length).
    """
    if tensor.ndim <= 2:
        return tensor.ndim - 1
    shape = getattr(module, "normalized_shape", None)
    if shape is not None and len(tuple(shape)) == 1:
        last, second = tensor.shape[-1], tensor.shape[1]
        if last == shape[0] and (second != shape[0] or type(module) in _LAST):
            return tensor.ndim - 1
        return 1
    if isinstance(module, nn.Linear):
        return tensor.ndim - 1
    return 1 if tensor.ndim > 3 or isinstance(module, _SECOND) else None


_SECOND = (
    nn.modules.batchnorm._NormBase,
    nn.GroupNorm,
    nn.modules.conv._ConvNd,
    nn.modules.pooling._MaxPoolNd,
    nn.modules.pooling._AvgPoolNd,
    nn.modules.pooling._AdaptiveAvgPoolNd,
    nn.modules.pooling._AdaptiveMaxPoolNd,
)
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
    return (tensor if channels == 1 else torch.movedim(tensor, channels, 1)).flatten(2)


def mean_over(values: Tensor, mask: Tensor | None) -> Tensor:
    """(batch, channels): the mean over positions, of those that count.

    Args:
        values: (batch, channels, positions).
        mask: (batch, positions), which positions count; None if all do.
    """
    if mask is None:
        return values.mean(-1)
    counts = mask.sum(1).clamp_min(1).to(values.device)
    return values.where(mask[:, None].to(values.device) != 0, 0).sum(-1) / counts[:, None]


def is_norm(module: nn.Module) -> bool:
    """Whether a module normalizes, by class, or by the word in its class name."""
    known = nn.modules.batchnorm._NormBase | nn.GroupNorm | nn.LayerNorm
    if isinstance(module, known):
        return True
    named = any(
        word in type(module).__name__.lower()
        for word in ("batchnorm", "layernorm", "groupnorm", "rmsnorm")
    )
    return named and not any(True for _ in module.children())
