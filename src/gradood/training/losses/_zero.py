"""A zero loss whose gradient is zero."""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import Function

from gradood.taps.graph import nodes_behind

__all__ = ["zero"]


def zero(values: Tensor, *others: Tensor) -> Tensor:
    """0 as a scalar, with a gradient of 0 to all that the values were computed from.

    ``0 · values.sum()`` would be NaN where a value is infinite, and its gradient where a value
    before it is. So infinite values are passed by: the zeros go to the leaves of their graph.

    Args:
        values: of any shape, floating; without grad the result has none either.
        others: tensors that take part too, such as parameters of the loss.

    Cost: none beside the forward; a backward of it alone runs through the graph of finite values.
    """
    inputs = [tensor for tensor in (values, *others) if tensor.requires_grad]
    if values.requires_grad and not bool(values.detach().isfinite().all()):
        inputs = [*_leaves(values), *others]
    dtype = torch.promote_types(values.dtype, torch.float32)
    if not inputs or not torch.is_grad_enabled():
        return values.new_zeros((), dtype=dtype)
    return _Zero.apply(values.new_empty((), dtype=dtype), *inputs)


class _Zero(Function):
    @staticmethod
    def forward(like: Tensor, *inputs: Tensor) -> Tensor:
        return torch.zeros_like(like)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        ctx.kinds = [(t.shape, t.dtype, t.device) for t in inputs[1:]]

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        zeros = [torch.zeros(s, dtype=dtype, device=device) for s, dtype, device in ctx.kinds]
        return None, *zeros


def _leaves(values: Tensor) -> list[Tensor]:
    """Tensors that the values were computed from and that gradients are accumulated in."""
    if values.grad_fn is None:
        return [values]
    return [node.variable for node in nodes_behind(values) if hasattr(node, "variable")]
