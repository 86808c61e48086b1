"""GradPCA (Seleznova et al., 2025, arXiv 2505.16017), on the gradients of the head by autograd."""

from typing import Any

import numpy as np
import torch

from .arrays import Array, to_array, to_labels


def head_gradient(h: Array, W: Array, b: Array, output: str) -> Array:
    """Gradient of the sum or the largest of the logits by every weight and bias, flattened."""
    weight, bias = torch.tensor(W, requires_grad=True), torch.tensor(b, requires_grad=True)
    logits = weight @ torch.tensor(h) + bias
    scalar = logits.sum() if output == "sum" else logits.max()
    scalar.backward()
    assert weight.grad is not None
    assert bias.grad is not None
    return np.concatenate([to_array(weight.grad).ravel(), to_array(bias.grad)])


def gradpca(h: Any, fit_h: Any, fit_y: Any, W: Any, b: Any, output: str, epsilon: float) -> Array:
    """Scores, high for out-of-distribution: minus the retained length of the centered gradient."""
    h, fit_h, fit_y, W, b = to_array(h), to_array(fit_h), to_labels(fit_y), to_array(W), to_array(b)
    means = []
    for c in range(len(W)):
        rows = [head_gradient(fit_h[n], W, b, output) for n in range(len(fit_h)) if fit_y[n] == c]
        if rows:
            means.append(sum(rows) / len(rows))
    center = sum(means) / len(means)
    G = np.array([mean - center for mean in means])
    values, vectors = np.linalg.eigh(G @ G.T)
    order = np.argsort(-values)
    axes: list[Array] = []
    kept = 0.0
    for i in order:
        axes.append(G.T @ vectors[:, i] / np.sqrt(values[i]))
        kept += values[i]
        if kept / values.sum() >= epsilon:
            break
    scores = []
    for n in range(len(h)):
        g = head_gradient(h[n], W, b, output) - center
        projected = np.zeros_like(g)
        for axis in axes:
            projected += axis * (axis @ g)
        scores.append(-np.linalg.norm(projected) / np.linalg.norm(g))
    return np.array(scores)
