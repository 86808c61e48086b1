"""Kernels of layers for a forward pass that is differentiated twice."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.overrides import TorchFunctionMode

from gradood.training._convolution import Geometry, convolution
from gradood.training._normalization import batch_norm

__all__ = ["differentiable_kernels"]


@contextmanager
def differentiable_kernels() -> Iterator[None]:
    """Layers by kernels that have a second derivative, and a cheap one, inside.

    Attention is computed by its math kernel, as the fused ones have no second derivative. On the
    CPU, in float32 and float64, convolutions and batch norms get second derivatives in closed form
    (docs/adr/0033). The model is not changed. What is checkpointed keeps torch's own kernels, as it
    is computed again in the backward.
    """
    with sdpa_kernel(SDPBackend.MATH), _ClosedForms():
        yield


class _ClosedForms(TorchFunctionMode):
    """Replaces calls of the functions that have a closed form, where that holds."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        replacement = _REPLACEMENTS.get(func)
        if replacement is None or not torch.is_grad_enabled() or _recorded():
            return func(*args, **(kwargs or {}))
        return replacement(func, *args, **(kwargs or {}))


def _batch_norm(
    func: Callable[..., Tensor],
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    x, running, affine = input, (running_mean, running_var), (weight, bias)
    others = [other for other in (*running, *affine) if other is not None]
    several = x.ndim > 1 and x.numel() > x.shape[1]
    fits = several and all(other.shape == x.shape[1:2] for other in others)
    known = training or (running_mean is not None and running_var is not None)
    if not fits or not known or not _plain(x, *others):
        return func(x, *running, *affine, training, momentum, eps)
    return batch_norm(x, running, affine, training=training, momentum=momentum, eps=eps)


def _convolution(
    func: Callable[..., Tensor],
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Tensor:
    n = weight.ndim - 2
    steps = [[step] * n if isinstance(step, int) else step for step in (stride, padding, dilation)]
    fits = input.ndim == n + 2 and all(not isinstance(s, str) and len(s) == n for s in steps)
    if fits and _plain(input, weight, bias):
        geometry = Geometry(list(steps[0]), list(steps[1]), list(steps[2]), groups)
        if min(geometry.output(input, weight)) > 0:
            return convolution(input, weight, bias, geometry)
    return func(input, weight, bias, stride, padding, dilation, groups)


_REPLACEMENTS: dict[Callable[..., Any], Callable[..., Tensor]] = {
    F.batch_norm: _batch_norm,
    torch.conv1d: _convolution,
    torch.conv2d: _convolution,
    torch.conv3d: _convolution,
}


def _recorded() -> bool:
    """Whether operations are traced, or saved tensors go through hooks, as in checkpointing."""
    autograd = getattr(torch._C, "_autograd", None)
    top = getattr(autograd, "_top_saved_tensors_default_hooks", None)
    return top is None or top(True) is not None or torch._C._is_tracing()


def _plain(x: Tensor, *others: Tensor | None) -> bool:
    """Whether all are ordinary tensors of one type on the CPU, and nothing casts them."""
    tensors = [x, *(other for other in others if other is not None)]
    return (
        x.dtype in (torch.float32, torch.float64)
        and not torch.is_autocast_enabled("cpu")
        and any(tensor.requires_grad for tensor in tensors)
        and all(
            type(tensor) in (Tensor, torch.nn.Parameter)
            and tensor.device.type == "cpu"
            and tensor.dtype == x.dtype
            for tensor in tensors
        )
    )
