"""GROOD (ElAraby et al., TMLR 2025, arXiv 2312.14427), gradients by autograd, search by loops."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .arrays import Array, Labels, to_array, to_labels


@dataclass(frozen=True)
class GroodFit:
    """Prototypes (P, D) of the P classes present, OOD prototype (D,), bank of gradients (M, D)."""

    classes: Labels
    prototypes: Array
    ood_prototype: Array
    bank: Array


def class_prototypes(h: Any, y: Any) -> tuple[Labels, Array]:
    """The classes present, ascending, and for each the mean of h over its samples (true class)."""
    h, y = to_array(h), to_labels(y)
    classes = np.unique(y)
    prototypes = np.zeros((len(classes), h.shape[1]))
    for i, c in enumerate(classes):
        count = 0
        for n in range(len(h)):
            if y[n] == c:
                prototypes[i] += h[n]
                count += 1
        prototypes[i] /= count
    return classes, prototypes


def ood_gradient(h_row: Array, prototypes: Array, ood_prototype: Array) -> Array:
    """∂CE/∂p_o (D,) of one sample, CE over the distance logits -‖h - p_j‖₂ of the P + 1 prototypes.

    Taken for every class label in turn; that they agree is asserted, so any label may be the right
    one.
    """
    feature = torch.tensor(h_row)
    leaf = torch.tensor(ood_prototype, requires_grad=True)
    distances = [torch.linalg.vector_norm(feature - torch.tensor(p)) for p in prototypes]
    distances.append(torch.linalg.vector_norm(feature - leaf))
    z = -torch.stack(distances)
    gradients = []
    for label in range(len(prototypes)):
        loss = torch.logsumexp(z, dim=0) - z[label]
        gradients.append(torch.autograd.grad(loss, leaf, retain_graph=True)[0].numpy())
    for gradient in gradients[1:]:
        np.testing.assert_allclose(gradient, gradients[0], rtol=1e-12, atol=0)
    return gradients[0]


def grood_fit(h: Any, y: Any, logits: Any, ood_prototype: Any, bank: str = "correct") -> GroodFit:
    """Prototypes from all rows by true label; bank from the rows whose argmax logit is the label.

    `bank="all"` takes every row. Classes without a row have no prototype.
    """
    if bank not in ("correct", "all"):
        raise ValueError(f"bank={bank!r}")
    h, y, logits = to_array(h), to_labels(y), to_array(logits)
    ood_prototype = to_array(ood_prototype)
    classes, prototypes = class_prototypes(h, y)
    gradients = []
    for n in range(len(h)):
        if bank == "all" or int(np.argmax(logits[n])) == y[n]:
            gradients.append(ood_gradient(h[n], prototypes, ood_prototype))
    if not gradients:
        raise ValueError("no sample is classified correctly")
    return GroodFit(classes, prototypes, ood_prototype, np.array(gradients))


def grood_score(h: Any, fit: GroodFit, k: int = 1, score: str = "neighbour") -> Array:
    """Distance from a sample's gradient to the k-th nearest in the bank, or its length ‖g‖₂ = π_o.

    Both rise with the probability of the OOD prototype, so neither is negated.
    """
    if score not in ("neighbour", "norm"):
        raise ValueError(f"score={score!r}")
    h = to_array(h)
    scores = np.empty(len(h))
    for n in range(len(h)):
        gradient = ood_gradient(h[n], fit.prototypes, fit.ood_prototype).tolist()
        if score == "norm":
            scores[n] = math.hypot(*gradient)
            continue
        distances = []
        for row in fit.bank:
            distances.append(math.dist(gradient, row.tolist()))
        scores[n] = sorted(distances)[k - 1]
    return scores


def grood_synthetic(
    early: Any,
    second_best: Any,
    early_prototypes: Any,
    mix: float,
    rest: Callable[[Tensor], Tensor],
) -> Array:
    """p_o (D,): mean over n samples of rest(λ f + (1 - λ) p^early), p^early of the second best.

    `early` (n, ...) holds the early activations f, `early_prototypes` (C, ...) the class means,
    `mix` is λ, and `rest` maps float64 activations (1, ...) to penultimate features (1, D).
    """
    early, prototypes, second = to_array(early), to_array(early_prototypes), to_labels(second_best)
    features = []
    for n in range(len(early)):
        mixed = mix * early[n] + (1.0 - mix) * prototypes[second[n]]
        with torch.no_grad():
            features.append(to_array(rest(torch.tensor(mixed[None])))[0])
    total = np.zeros(features[0].shape)
    for feature in features:
        total += feature
    return total / len(features)
