"""GAIA-Z and GAIA-A (Chen et al., NeurIPS 2023, arXiv 2311.09620), by autograd, one by one."""

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from .arrays import Array

_CHANNELS_FIRST = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.GroupNorm)


@dataclass(frozen=True)
class _Pass:
    """What one forward pass of one sample left behind, still attached to its graph.

    `pooled` holds the inputs of the head, one for each time it ran.
    """

    logits: Tensor
    outputs: dict[str, Tensor]
    pooled: list[Tensor]


def _forward(network: nn.Module, sample: Tensor, layers: Sequence[str], head: str | None) -> _Pass:
    """Run `sample` (1, ...) and keep the output of every layer in `layers` and the input of `head`.

    The model goes on with a clone, so that an in-place ReLU changes the clone and not the kept
    tensor, and the gradient with respect to the kept tensor is the one before the ReLU.
    """
    modules = dict(network.named_modules())
    outputs: dict[str, Tensor] = {}
    pooled: list[Tensor] = []

    def keep(name: str) -> Callable[..., Tensor]:
        def hook(_module: nn.Module, _inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
            if name in outputs:
                raise ValueError(f"layer {name} runs more than once")
            outputs[name] = output
            return output.clone()

        return hook

    def keep_input(_module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        pooled.append(inputs[0])

    handles = [modules[name].register_forward_hook(keep(name)) for name in dict.fromkeys(layers)]
    if head is not None:
        handles.append(modules[head].register_forward_pre_hook(keep_input))
    try:
        leaf = sample.detach().double().requires_grad_()
        logits = network(leaf)[0]
    finally:
        for handle in handles:
            handle.remove()
    missing = [name for name in layers if name not in outputs]
    if missing:
        raise ValueError(f"layers not reached: {missing}")
    return _Pass(logits, outputs, pooled)


def _channels(module: nn.Module, gradient: Tensor) -> list[list[float]]:
    """The values of `gradient` (1, ...) as one list per channel, all positions of that channel.

    The channel axis is 1, but for token tensors (1, T, C), the output of anything other than a
    BatchNorm1d or GroupNorm, it is the last.
    """
    values = gradient[0]
    if values.ndim == 2 and not isinstance(module, _CHANNELS_FIRST):
        values = values.transpose(0, 1)
    return [values[c].reshape(-1).tolist() for c in range(len(values))]


def gaia_z(model: nn.Module, x: Tensor, layers: Sequence[str]) -> Array:
    """GAIA-Z: mean over all channels of all `layers` of (share of non-zero gradient entries)².

    The gradient is that of max_c z_c with respect to each layer's output; an entry counts when it
    is exactly different from zero. Every channel of every layer has the same weight. Higher = OOD
    already.
    """
    network = copy.deepcopy(model).double().eval()
    modules = dict(network.named_modules())
    scores = np.empty(len(x))
    for n in range(len(x)):
        run = _forward(network, x[n : n + 1], layers, head=None)
        largest = run.logits[int(torch.argmax(run.logits))]
        gradients = torch.autograd.grad(largest, [run.outputs[name] for name in layers])
        squares = []
        for name, gradient in zip(layers, gradients, strict=True):
            for channel in _channels(modules[name], gradient):
                nonzero = sum(1 for value in channel if value != 0)
                squares.append((nonzero / len(channel)) ** 2)
        scores[n] = math.fsum(squares) / len(squares)
    return scores


def output_gradient(model: nn.Module, x: Tensor, last_layer: str) -> Array:
    """Spatial mean g_out (N, channels) of ∂ Σ_c log_softmax(z)_c / ∂F, F the last output."""
    network = copy.deepcopy(model).double().eval()
    last = dict(network.named_modules())[last_layer]
    rows = []
    for n in range(len(x)):
        run = _forward(network, x[n : n + 1], [last_layer], head=None)
        loss = (run.logits - torch.logsumexp(run.logits, dim=0)).sum()
        (gradient,) = torch.autograd.grad(loss, [run.outputs[last_layer]])
        rows.append([math.fsum(channel) / len(channel) for channel in _channels(last, gradient)])
    return np.array(rows)


def inner_gradients(model: nn.Module, x: Tensor, layers: Sequence[str], head: str) -> Array:
    """|Spatial mean of ∂ Σ_d h_d / ∂output| (N, channels of all layers), h the input of `head`."""
    network = copy.deepcopy(model).double().eval()
    modules = dict(network.named_modules())
    rows = []
    for n in range(len(x)):
        run = _forward(network, x[n : n + 1], layers, head)
        (pooled,) = run.pooled
        gradients = torch.autograd.grad(pooled.sum(), [run.outputs[name] for name in layers])
        row = []
        for name, gradient in zip(layers, gradients, strict=True):
            for channel in _channels(modules[name], gradient):
                row.append(abs(math.fsum(channel) / len(channel)))
        rows.append(row)
    return np.array(rows)


def gaia_a(
    model: nn.Module, x: Tensor, layers: Sequence[str], last_layer: str, head: str = "head"
) -> Array:
    """GAIA-A: mean over all channels of the inner `layers` of (inner component / O)².

    O = sqrt(mean_c |g_out,c|) is one number per sample, from `output_gradient`; the inner
    components come from `inner_gradients`. `last_layer` itself is no inner layer. O = 0 (p exactly
    uniform) scores +inf. Higher = OOD already.
    """
    if last_layer in layers:
        raise ValueError(f"{last_layer} is the last layer and an inner layer at once")
    outer = output_gradient(model, x, last_layer)
    inner = inner_gradients(model, x, layers, head)
    scores = np.empty(len(x))
    for n in range(len(x)):
        scale = math.sqrt(math.fsum(abs(value) for value in outer[n]) / len(outer[n]))
        if scale == 0:
            scores[n] = math.inf
            continue
        scores[n] = math.fsum((value / scale) ** 2 for value in inner[n]) / len(inner[n])
    return scores
