"""ODIN (Liang, Li & Srikant, ICLR 2018) and AdaSCALE (Regmi, arXiv 2503.08023), row by row.

Both look at an input again after a step along the sign of its gradient. Autograd through a float64
copy of the model on batches of one, loops for the rest.
"""

import copy
import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from .arrays import Array, to_array


def input_gradient(model: nn.Module, row: Tensor, of: Callable[[Tensor], Tensor]) -> Array:
    """∂ of(logits) / ∂ row, of the shape of `row`."""
    leaf = row.detach().double().clone().requires_grad_()
    (gradient,) = torch.autograd.grad(of(model(leaf[None])[0]), leaf)
    return to_array(gradient)


def _sign(value: float) -> float:
    return float(value > 0) - float(value < 0)


def odin(
    model: nn.Module,
    x: Tensor,
    temperature: float = 1000.0,
    noise: float = 0.0014,
    std: Sequence[float] | None = None,
    *,
    one: bool = False,
) -> Array:
    """-max softmax(z(x̃)/T); x̃ = x - ε sign(-∇ log S(x)) / std, with S the largest softmax.

    With `one`, only the value with the largest gradient moves, the first of equal ones (i-ODIN).
    """
    network = copy.deepcopy(model).double().eval()

    def log_largest(z: Tensor) -> Tensor:
        return torch.log(torch.softmax(z / temperature, 0)[int(z.argmax())])

    scores = np.empty(len(x))
    for n in range(len(x)):
        gradient = input_gradient(network, x[n], log_largest)
        moved = to_array(x[n]).copy()
        indices = list(np.ndindex(moved.shape))
        for index in [max(indices, key=lambda i: abs(float(gradient[i])))] if one else indices:
            scale = 1.0 if std is None else std[index[0]]
            moved[index] -= noise * _sign(-gradient[index]) / scale
        z = [v / temperature for v in network(torch.tensor(moved)[None])[0].tolist()]
        total = math.fsum(math.exp(v - max(z)) for v in z)
        scores[n] = -1.0 / total
    return scores


def least_salient(gradient: Array, share: float, most: bool = False) -> list[int]:
    """Flat indices of the o % of values with the smallest (or largest) |gradient|."""
    sizes = [abs(float(g)) for g in gradient.reshape(-1)]
    count = max(1, int(len(sizes) * share))
    order = sorted(range(len(sizes)), key=lambda i: (-sizes[i] if most else sizes[i], i))
    return order[:count]


def perturbed_rows(
    model: nn.Module, x: Tensor, share: float, epsilon: float, most: bool = False
) -> Tensor:
    """x + ε sign(∂ z_ŷ/∂x) at the chosen values of each row."""
    network = copy.deepcopy(model).double().eval()
    rows = []
    for n in range(len(x)):
        gradient = input_gradient(network, x[n], lambda z: z[int(z.argmax())])
        moved = to_array(x[n]).copy().reshape(-1)
        for i in least_salient(gradient, share, most):
            moved[i] += epsilon * _sign(gradient.reshape(-1)[i])
        rows.append(torch.tensor(moved.reshape(x.shape[1:])))
    return torch.stack(rows)


def _mean_of_top(keys: Array, values: Array, percent: float) -> float:
    """Sum of `values` at the top-k keys, averaged over every choice among equal last keys."""
    k = max(1, int(len(keys) * percent / 100))
    last = sorted(keys, reverse=True)[k - 1]
    sure = [float(v) for key, v in zip(keys, values, strict=True) if key > last]
    tied = [float(v) for key, v in zip(keys, values, strict=True) if key == last]
    return math.fsum(sure) + (k - len(sure)) * math.fsum(tied) / len(tied)


def shift(a: Array, moved: Array, k1: float, k2: float, balance: float) -> float:
    """Q' = λ Σ_{top k1} |a - a_ε| + Σ_{top k2} relu(a_ε) of one row."""
    q = _mean_of_top(a, np.abs(a - moved), k1)
    correction = _mean_of_top(a, np.maximum(moved, 0), k2)
    return balance * q + correction


def ratio(a: Array, percentile: float) -> float:
    """Sum of the positive activations over that of the largest D - round(D p / 100)."""
    positive = sorted((max(float(v), 0.0) for v in a), reverse=True)
    k = max(1, len(positive) - round(len(positive) * percentile / 100))
    top = math.fsum(positive[:k])
    return math.fsum(positive) / top if top > 0 else 1.0


def percentile(value: float, reference: Sequence[float], p_min: float, p_max: float) -> float:
    """p_min + (1 - F(Q')) (p_max - p_min)."""
    below = sum(1 for other in reference if other <= value * (1 + 1e-6))
    return p_min + (1 - below / len(reference)) * (p_max - p_min)


def adascale(
    a: Array, W: Array, b: Array | None, percentiles: Sequence[float], logits: bool
) -> Array:
    """-logsumexp(W (a exp(r)) + b), or -logsumexp(r² (W a + b))."""
    scores = np.empty(len(a))
    for n in range(len(a)):
        r = ratio(a[n], percentiles[n])
        scaled = a[n] if logits else a[n] * math.exp(r)
        z = [
            math.fsum(float(w) * float(h) for w, h in zip(W[c], scaled, strict=True))
            + (0.0 if b is None else float(b[c]))
            for c in range(len(W))
        ]
        z = [r * r * v for v in z] if logits else z
        largest = max(z)
        scores[n] = -(largest + math.log(math.fsum(math.exp(v - largest) for v in z)))
    return scores
