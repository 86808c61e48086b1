"""Convolution whose second derivative to the weight is one weight gradient.

The gradient with respect to the input, ``q = Wᵀ g``, has in a direction v the derivatives ``W v``
to g, and to W the weight gradient of the pair (g, v). torch computes the latter as a convolution
with kernels as large as the image, at twice the price.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import Function

__all__ = ["Geometry", "convolution"]


@dataclass(frozen=True, slots=True)
class Geometry:
    """Stride, padding, dilation and groups of a convolution, one number for each dimension."""

    stride: list[int]
    padding: list[int]
    dilation: list[int]
    groups: int

    def output(self, x: Tensor, weight: Tensor) -> list[int]:
        """Shape of the output."""
        spatial = zip(
            x.shape[2:], weight.shape[2:], self.stride, self.padding, self.dilation, strict=True
        )
        sides = [(n + 2 * p - d * (k - 1) - 1) // s + 1 for n, k, s, p, d in spatial]
        return [len(x), len(weight), *sides]

    def apply(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """The convolution."""
        zeros = [0] * len(self.stride)
        return torch.ops.aten.convolution(
            x, weight, bias, self.stride, self.padding, self.dilation, False, zeros, self.groups
        )

    def gradients(self, g: Tensor, x: Tensor, weight: Tensor, wanted: list[bool]) -> list[Any]:
        """Gradients to input, weight and bias; None for those not wanted."""
        zeros = [0] * len(self.stride)
        geometry = (self.stride, self.padding, self.dilation, False, zeros, self.groups)
        bias = [len(weight)] if wanted[2] else None
        return torch.ops.aten.convolution_backward(g, x, weight, bias, *geometry, wanted)


def convolution(x: Tensor, weight: Tensor, bias: Tensor | None, geometry: Geometry) -> Tensor:
    """As `torch.nn.functional.conv2d`, of any dimension, without its checks.

    Args:
        x: (batch, channels, …).
        weight: (channels out, channels / groups, …).
        bias: (channels out,), or None.
        geometry: of the kernel's steps.

    Cost: of the second derivative, one forward and one gradient to the weight.
    """
    share = _Parameters.apply(weight, bias, (x,), geometry)
    return _Convolution.apply(x, weight, bias, share, geometry)


class _Parameters(Function):
    """A zero that hands the gradient of the output on to weight and bias.

    A function in Python is not told which of its gradients are wanted. As a node of its own, this
    one is passed by when the gradient to the input alone is. So the input is not among its inputs
    for autograd; it is in a tuple.
    """

    @staticmethod
    def forward(
        weight: Tensor, bias: Tensor | None, source: tuple[Tensor], geometry: Geometry
    ) -> Tensor:
        return weight.new_zeros(()).expand(geometry.output(source[0], weight))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        weight, _, source, ctx.geometry = inputs
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(weight, *source)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        if gradients[0] is None:
            return (None,) * 4
        weight, x = ctx.saved_tensors
        wanted = [False, *ctx.needs_input_grad[:2]]
        # torch's own function, which can be differentiated.
        _, to_weight, to_bias = ctx.geometry.gradients(gradients[0], x, weight, wanted)
        return to_weight, to_bias, None, None


class _Convolution(Function):
    """The convolution, whose gradients to weight and bias are left to `_Parameters`."""

    @staticmethod
    def forward(
        x: Tensor, weight: Tensor, bias: Tensor | None, share: Tensor, geometry: Geometry
    ) -> Tensor:
        return geometry.apply(x, weight, bias)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        x, weight, _, _, ctx.geometry = inputs
        ctx.save_for_backward(x, weight)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        (g,) = gradients
        if not torch.is_grad_enabled():
            # Not to be differentiated again: all at once is cheaper.
            found = ctx.geometry.gradients(g, x, weight, list(ctx.needs_input_grad[:3]))
            return *found, None, None
        to_input = _InputGradient.apply(g, weight, x, ctx.geometry)
        return to_input if ctx.needs_input_grad[0] else None, None, None, g, None


class _InputGradient(Function):
    """Gradient to the input, which depends on the input by its shape alone."""

    @staticmethod
    def forward(g: Tensor, weight: Tensor, x: Tensor, geometry: Geometry) -> Tensor:
        return geometry.gradients(g, x, weight, [True, False, False])[0]

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        g, weight, _, ctx.geometry = inputs
        ctx.save_for_backward(g, weight)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (v,) = gradients
        g, weight = ctx.saved_tensors
        to_weight = None
        if ctx.needs_input_grad[1]:
            to_weight = ctx.geometry.gradients(g, v, weight, [False, True, False])[1]
        return ctx.geometry.apply(v, weight, None), to_weight, None, None
