"""Batch norm whose first and second derivatives are closed forms in few passes over memory.

With x̂ = (x − μ) r, r = 1 / √(σ² + ε) and means over a channel's M values, the gradient with respect
to the input is ``q = γ r (g − a − b x̂)`` with a = mean(g), b = mean(g x̂). Its derivative in a
direction v needs c = mean(v), d = mean(v x̂) and k = mean(v (g − a)) − b d alone:

    to g: p = γ r (v − c − d x̂), which is the first derivative applied to v,
    to γ: M r k,
    to x: −r (d q + b p) − γ r² k x̂.

With statistics that do not depend on the batch the layer is linear, q = γ r g, and the last is 0.
torch's own second derivative takes about 25 passes, each with memory of its own.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import Function

__all__ = ["batch_norm"]

_backward = torch.ops.aten.native_batch_norm_backward


def batch_norm(
    x: Tensor,
    running: tuple[Tensor | None, Tensor | None],
    affine: tuple[Tensor | None, Tensor | None],
    *,
    training: bool,
    momentum: float,
    eps: float,
) -> Tensor:
    """As `torch.nn.functional.batch_norm`, without its checks; it updates the running statistics.

    Args:
        x: (batch, channels, …) on the CPU.
        running: mean and variance, or None twice.
        affine: weight and bias, or None.
        training: normalize by the statistics of the batch.
        momentum: share of the batch in the running statistics.
        eps: added to the variance.

    Cost: of the second derivative, two gradients of the layer and three passes.
    """
    if training:
        return _ByBatch.apply(x, *affine, *running, momentum, eps)[0]
    mean, variance = running
    assert mean is not None and variance is not None
    return _ByRunning.apply(x, *affine, mean, variance, eps)


def _shaped(values: Tensor, x: Tensor) -> Tensor:
    """Numbers of the channels, to be broadcast over x."""
    return values.view(1, -1, *[1] * (x.ndim - 2))


def _refuse_third() -> None:
    if torch.is_grad_enabled():
        raise RuntimeError(
            "batch norm was to be differentiated three times; its closed form ends with the second "
            "derivative. Call the model outside of differentiable_kernels()."
        )


def _products(v: Tensor, g: Tensor, center: Tensor) -> Tensor:
    """Σ v (g − center) of each channel, in one pass and without memory."""
    one = torch.ones_like(center)
    return _backward(v, g, None, None, None, center, one, True, 0.0, [False, True, False])[1]


class _ByBatch(Function):
    """Normalization by the statistics of the batch: output, mean, 1 / √(variance + ε)."""

    @staticmethod
    def forward(
        x: Tensor,
        weight: Tensor | None,
        bias: Tensor | None,
        mean: Tensor | None,
        variance: Tensor | None,
        momentum: float,
        eps: float,
    ) -> tuple[Tensor, Tensor, Tensor]:
        return torch.native_batch_norm(x, weight, bias, mean, variance, True, momentum, eps)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        x, weight, *_, ctx.eps = inputs
        _, mean, scale = output
        ctx.mark_non_differentiable(mean, scale)
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(x, weight, mean, scale)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        if gradients[0] is None:
            return (None,) * 7
        x, weight, bias = _ByBatchGradient.apply(gradients[0], *ctx.saved_tensors, ctx.eps)
        _, has_weight, has_bias, *_ = ctx.needs_input_grad
        return x, weight if has_weight else None, bias if has_bias else None, *[None] * 4


class _ByBatchGradient(Function):
    """Gradients to input, weight and bias: q, M b, M a."""

    @staticmethod
    def forward(
        g: Tensor, x: Tensor, weight: Tensor | None, mean: Tensor, scale: Tensor, eps: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        return _backward(g, x, weight, None, None, mean, scale, True, eps, [True] * 3)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        *tensors, ctx.eps = inputs
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*tensors, *output)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        _refuse_third()
        v, to_weight, to_bias = gradients
        g, x, weight, mean, scale, q, sum_gx, sum_g = ctx.saved_tensors
        given_g = given_x = given_weight = None
        if v is not None:
            size = x.numel() // x.shape[1]
            a, b = sum_g / size, sum_gx / size
            given_g, sum_vx, _ = _backward(
                v, x, weight, None, None, mean, scale, True, ctx.eps, [True] * 3
            )
            d = sum_vx / size
            k = _products(v, g, a) / size - b * d
            given_weight = size * scale * k
            factor = scale**3 * k if weight is None else weight * scale**3 * k
            given_x = torch.addcmul(_shaped(factor * mean, x), x, _shaped(-factor, x))
            given_x.addcmul_(q, _shaped(-scale * d, x))
            given_x.addcmul_(given_g, _shaped(-scale * b, x))
        if to_weight is not None:
            normal = (x - _shaped(mean, x)) * _shaped(scale, x)
            given_g = _sum(given_g, normal * _shaped(to_weight, x))
            mask = [True, False, False]
            plain = _backward(g, x, None, None, None, mean, scale, True, ctx.eps, mask)[0]
            given_x = _sum(given_x, plain * _shaped(to_weight, x))
        if to_bias is not None:
            given_g = _sum(given_g, _shaped(to_bias, x).expand_as(x))
        return given_g, given_x, given_weight if weight is not None else None, None, None, None


class _ByRunning(Function):
    """Normalization by running statistics, in which it is linear."""

    @staticmethod
    def forward(
        x: Tensor,
        weight: Tensor | None,
        bias: Tensor | None,
        mean: Tensor,
        variance: Tensor,
        eps: float,
    ) -> Tensor:
        return torch.native_batch_norm(x, weight, bias, mean, variance, False, 0.0, eps)[0]

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        x, weight, _, mean, variance, ctx.eps = inputs
        ctx.save_for_backward(x, weight, mean, variance)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, bias = _ByRunningGradient.apply(gradients[0], *ctx.saved_tensors, ctx.eps)
        _, has_weight, has_bias, *_ = ctx.needs_input_grad
        return x, weight if has_weight else None, bias if has_bias else None, None, None, None


class _ByRunningGradient(Function):
    """Gradients to input, weight and bias."""

    @staticmethod
    def forward(
        g: Tensor, x: Tensor, weight: Tensor | None, mean: Tensor, variance: Tensor, eps: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        return _backward(g, x, weight, mean, variance, None, None, False, eps, [True] * 3)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        g, x, weight, mean, variance, eps = inputs
        scale = (variance + eps).rsqrt()
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(g, x, weight, mean, scale)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        _refuse_third()
        v, to_weight, to_bias = gradients
        g, x, weight, mean, scale = ctx.saved_tensors
        given_g = given_x = given_weight = None
        if v is not None:
            given_g = v * _shaped(scale if weight is None else weight * scale, x)
            given_weight = scale * _products(v, g, torch.zeros_like(mean))
        if to_weight is not None:
            slope = _shaped(to_weight * scale, x)
            given_g = _sum(given_g, (x - _shaped(mean, x)) * slope)
            given_x = g * slope
        if to_bias is not None:
            given_g = _sum(given_g, _shaped(to_bias, x).expand_as(x))
        return given_g, given_x, given_weight if weight is not None else None, None, None, None


def _sum(total: Tensor | None, term: Tensor) -> Tensor:
    return term if total is None else total + term
