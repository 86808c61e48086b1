"""GradNorm (Huang, Geng & Li, NeurIPS 2021, arXiv 2110.00218), by autograd, sample by sample."""

import copy
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from .arrays import Array, to_array


def _divergence_from_uniform(z: Tensor, temperature: float) -> Tensor:
    """KL(u ‖ softmax(z/T)) = Σ_c u_c (log u_c - log p_c) with u_c = 1/C, for one row of logits."""
    u = 1.0 / len(z)
    log_p = z / temperature - torch.logsumexp(z / temperature, dim=0)
    total = z.new_zeros(())
    for c in range(len(z)):
        total = total + u * (math.log(u) - log_p[c])
    return total


def q_norm(parts: Sequence[Tensor], order: float) -> float:
    """(Σ |v|^q)^(1/q) over the entries of all `parts` together; the largest |v| for q = inf."""
    flat = torch.cat([part.detach().reshape(-1) for part in parts])
    entries: list[float] = flat.abs().tolist()
    if order == math.inf:
        return max(entries)
    return float(math.fsum(value**order for value in entries) ** (1.0 / order))


def gradnorm(
    h: Any,
    W: Any,
    b: Any | None,
    temperature: float = 1.0,
    order: float = 1,
    bias: bool = False,
) -> Array:
    """-‖∂KL(u ‖ softmax((W h + b)/T))/∂W‖_q per row of `h`; the paper scores ID high, so negated.

    The paper's scale (targets 1/C); its released code gives C times this. With `bias` the gradient
    with respect to `b` joins the entries under the norm.
    """
    if bias and b is None:
        raise ValueError("bias=True for a head without bias")
    features, weight_values = to_array(h), to_array(W)
    scores = np.empty(len(features))
    for n in range(len(features)):
        row = torch.tensor(features[n])
        weight = torch.tensor(weight_values, requires_grad=True)
        leaves = [weight]
        z = weight @ row
        if b is not None:
            offset = torch.tensor(to_array(b), requires_grad=True)
            z = z + offset
            if bias:
                leaves.append(offset)
        gradients = torch.autograd.grad(_divergence_from_uniform(z, temperature), leaves)
        scores[n] = -q_norm(gradients, order)
    return scores


def gradnorm_parameters(
    model: nn.Module,
    x: Tensor,
    names: Sequence[str],
    temperature: float = 1.0,
    order: float = 1,
) -> Array:
    """The same score for the parameters `names`, by autograd through a float64 copy of `model`.

    One q-norm over the entries of all of them together, negated. The model runs in eval mode on
    batches of one, and maps them to logits (1, C).
    """
    network = copy.deepcopy(model).double().eval()
    parameters = dict(network.named_parameters())
    leaves = [parameters[name].requires_grad_() for name in names]
    scores = np.empty(len(x))
    for n in range(len(x)):
        z = network(x[n : n + 1].detach().double())[0]
        gradients = torch.autograd.grad(_divergence_from_uniform(z, temperature), leaves)
        scores[n] = -q_norm(gradients, order)
    return scores
