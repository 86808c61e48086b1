"""NAC-UE (Liu et al., ICLR 2024, arXiv 2306.02879), as its released code, by autograd."""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from .arrays import Array, to_array


def products(network: nn.Module, x: Tensor, layers: Sequence[str]) -> list[list[Array]]:
    """Per layer and sample, ``z ⊙ ∂KL(u ‖ p)/∂z`` (channels,), both summed over positions.

    The input of `head` comes last.
    """
    found: list[list[Array]] = [[] for _ in range(len(layers) + 1)]
    for n in range(len(x)):
        outputs: dict[str, Tensor] = {}
        handles = [
            network.get_submodule(name).register_forward_hook(_keep(outputs, name))
            for name in layers
        ]
        head = network.get_submodule("head")
        handles.append(head.register_forward_pre_hook(_keep_input(outputs)))
        logits = network(x[n : n + 1].clone().requires_grad_())
        for handle in handles:
            handle.remove()
        classes = logits.shape[1]
        divergence = logits.new_zeros(())
        log_p = torch.log_softmax(logits, 1)
        for c in range(classes):
            divergence = divergence + (math.log(1.0 / classes) - log_p[0, c]) / classes
        names = [*layers, ""]
        gradients = torch.autograd.grad(divergence, [outputs[name] for name in names])
        for i, name in enumerate(names):
            z, g = to_array(outputs[name][0]), to_array(gradients[i][0])
            while z.ndim > 1:
                z, g = z.sum(-1), g.sum(-1)
            found[i].append(z * g)
    return found


def _keep(outputs: dict[str, Tensor], name: str) -> Callable[..., Tensor]:
    def hook(_module: nn.Module, _inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        outputs[name] = output
        return output.clone()

    return hook


def _keep_input(outputs: dict[str, Tensor]) -> Callable[..., None]:
    def hook(_module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        outputs[""] = inputs[0]

    return hook


def thresholds(M: int) -> list[float]:
    """The bounds of the bins."""
    half = M // 2
    low = []
    for i in range(half):
        step = 1 + i * (math.sqrt(1000) - 1) / (half - 1)
        low.append(math.log(step, 1000))
    low[-1] = 0.5
    high = [1 - value for value in reversed(low)]
    bounds = low[:-1] + high
    bounds[-1] += 0.01
    return bounds


def _bin(value: float, bounds: list[float]) -> int:
    found = [i for i in range(len(bounds) - 1) if bounds[i] <= value < bounds[i + 1]]
    assert len(found) == 1
    return found[0]


def _sigmoid(value: float) -> float:
    return 1 / (1 + math.exp(-value)) if value > -700 else 0.0


def auto_alpha(layer: list[Array]) -> float:
    """1 / the size below which seven tenths of the products that are not zero lie."""
    sizes = sorted(abs(float(v)) for row in layer for v in row if v != 0)
    return 1 / sizes[7 * (len(sizes) - 1) // 10]


def nac(
    fit: list[list[Array]],
    test: list[list[Array]],
    alpha: Sequence[float],
    r: Sequence[float],
    M: Sequence[int],
) -> list[float]:
    """Scores, high for out-of-distribution.

    Args:
        fit: from `products`.
        test: from `products`.
        alpha: per layer.
        r: per layer, samples that fill a bin.
        M: per layer.
    """
    layers = len(fit)
    scores = [0.0] * len(test[0])
    for i in range(layers):
        bounds = thresholds(M[i])
        neurons = len(fit[i][0])
        for k in range(neurons):
            counts = [0] * (len(bounds) - 1)
            for row in fit[i]:
                counts[_bin(_sigmoid(alpha[i] * row[k]), bounds)] += 1
            for n, row in enumerate(test[i]):
                coverage = min(counts[_bin(_sigmoid(alpha[i] * row[k]), bounds)] / r[i], 1.0)
                scores[n] -= coverage / neurons / layers
    return scores
