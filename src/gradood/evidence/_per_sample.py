"""Per-sample parameter gradients, for the one reading that has no closed form."""

from functools import partial

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from gradood.errors import TapError, suggest
from gradood.evidence.requests import ParameterNorm
from gradood.taps import Inputs, Network, described, left_as_found

__all__ = ["parameter_norms"]

_BUDGET = 1 << 28
"""Bytes of per-sample gradients held at a time."""


def parameter_norms(network: Network, x: Inputs, read: ParameterNorm) -> Tensor:
    """Norm, per sample, of the gradient of KL(uniform ‖ softmax(logits / T)) over parameters.

    Args:
        network: the observed model.
        x: inputs on its device.
        read: which parameters, temperature and order of the norm.

    Returns:
        (batch,) float64.

    Raises:
        TapError: a parameter is unknown, or the model cannot be vectorized over samples.

    Cost:
        About three forwards, one vectorized pass per chunk; a chunk's gradients take at most
        256 MB or one sample's, whichever is more.
    """
    if not isinstance(x, Tensor):
        raise TapError(
            f"per-sample gradients are taken of models of a single tensor; this one takes "
            f"{described(x)}. Leave parameters=None for the exact closed form on the last layer."
        )
    views = network.views
    parameters = {name: p.detach() for name, p in views.model.named_parameters()}
    for name in read.names:
        if name not in parameters:
            raise TapError(f"no parameter {name!r}; {suggest(name, parameters)}")
    chosen = {name: parameters.pop(name) for name in read.names}

    def divergence(some: dict[str, Tensor], module: nn.Module, row: Tensor) -> Tensor:
        rest = {**parameters, **dict(module.named_buffers())}
        logits = network.logits_of(functional_call(module, {**some, **rest}, (row[None],)))
        scaled = logits.to(torch.promote_types(logits.dtype, torch.float32)) / read.temperature
        # KL(u ‖ p) = −log C − mean log p; the constant has no gradient.
        return -torch.log_softmax(scaled, 1).mean()

    def norm(module: nn.Module, row: Tensor) -> Tensor:
        parts = grad(divergence)(chosen, module, row)
        flat = torch.cat([part.flatten().to(torch.float64) for part in parts.values()])
        return torch.linalg.vector_norm(flat, read.order)

    size = sum(p.numel() for p in chosen.values()) * 12
    rows = max(1, _BUDGET // max(1, size))
    try:
        with left_as_found(views) as view:
            each = vmap(partial(norm, view.module), randomness="different")
            return torch.cat([each(part) for part in x.split(rows)])
    except torch.cuda.OutOfMemoryError:
        raise
    except (RuntimeError, NotImplementedError) as error:
        raise TapError(
            f"per-sample gradients of {', '.join(read.names[:3])} … cannot be taken: {error}. "
            "Leave parameters=None for the exact closed form on the last layer."
        ) from error
