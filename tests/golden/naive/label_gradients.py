"""ExGrad, GradUncertainty and GradOrth by autograd on the head, sample by sample."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from .arrays import Array, to_array
from .gradnorm import q_norm


def head_gradients(h: Any, W: Any, b: Any | None, loss: Callable[[Tensor], Tensor]) -> list[Tensor]:
    """∂loss(z)/∂W, and ∂loss(z)/∂b if there is one, for one row `h`."""
    weight = torch.tensor(to_array(W), requires_grad=True)
    z = weight @ torch.tensor(to_array(h))
    leaves = [weight]
    if b is not None:
        offset = torch.tensor(to_array(b), requires_grad=True)
        z, leaves = z + offset, [weight, offset]
    return list(torch.autograd.grad(loss(z), leaves))


def exgrad(h: Any, W: Any, b: Any | None, order: float = 1, bias: bool = True) -> Array:
    """Σ_y p_y ‖∂ log p_y / ∂(W, b)‖_q per row (Igoe et al. 2022, arXiv 2205.10439)."""
    rows, weight = to_array(h), to_array(W)
    scores = np.zeros(len(rows))
    for n, row in enumerate(rows):
        z = weight @ row + (0.0 if b is None else to_array(b))
        p = np.exp(z - z.max())
        p /= p.sum()
        for y in range(len(weight)):
            gradients = head_gradients(row, weight, b, lambda z, y=y: torch.log_softmax(z, 0)[y])
            scores[n] += p[y] * q_norm(gradients if bias else gradients[:1], order)
    return scores


def grad_uncertainty(h: Any, W: Any, b: Any | None) -> Array:
    """−Σ ‖∂BCE(softmax(z), 1)/∂θ‖₂² over the head's parameters (pytorch-ood's definition)."""

    def loss(z: Tensor) -> Tensor:
        p = torch.softmax(z, 0)
        return F.binary_cross_entropy(p, torch.ones_like(p), reduction="sum")

    rows = to_array(h)
    return np.array([-(q_norm(head_gradients(row, W, b, loss), 2) ** 2) for row in rows])


def gradorth(h: Any, fit_h: Any, W: Any, b: Any | None, threshold: float) -> Array:
    """−‖∇_W CE(uniform, z) S Sᵀ‖_F with S the leading right singular vectors of the fit features
    (Behpour et al. 2023, arXiv 2308.00310)."""
    _, sigma, right = np.linalg.svd(to_array(fit_h), full_matrices=False)
    energy, k = np.cumsum(sigma**2) / np.sum(sigma**2), 1
    while energy[k - 1] < threshold - 1e-9:
        k += 1
    basis = right[:k].T
    scores = []
    for row in to_array(h):
        gradient = head_gradients(row, W, b, lambda z: -torch.log_softmax(z, 0).mean())[0].numpy()
        projected = gradient @ basis @ basis.T
        scores.append(-math.sqrt(math.fsum(float(v) ** 2 for v in projected.flatten())))
    return np.array(scores)


def projection_share(h: Any, fit_h: Any, threshold: float) -> Array:
    """−‖Sᵀ h‖ / ‖h‖ with S as for `gradorth`, one direction after the other."""
    _, sigma, right = np.linalg.svd(to_array(fit_h), full_matrices=False)
    total, held, k = math.fsum(float(s) ** 2 for s in sigma), 0.0, 0
    while held < (threshold - 1e-9) * total:
        held, k = held + float(sigma[k]) ** 2, k + 1
    scores = []
    for row in to_array(h):
        inside = [
            math.fsum(float(a) * float(b) for a, b in zip(row, s, strict=True)) for s in right[:k]
        ]
        whole = math.fsum(float(v) ** 2 for v in row)
        scores.append(-math.sqrt(math.fsum(v * v for v in inside) / whole))
    return np.array(scores)
