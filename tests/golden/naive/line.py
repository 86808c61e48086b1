"""LINe (Ahn, Park & Kim, CVPR 2023, arXiv 2303.13995), with the full CxCxD tensor of masks."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .arrays import Array, to_array, to_labels


@dataclass(frozen=True)
class LineFit:
    """Contributions (C, D), activation masks (C, D), weight masks (C, C, D), and the clip δ.

    `weight_masks[c]` is M_c, the mask of the whole head (C, D) when class c is predicted.
    """

    contributions: Array
    activation_masks: NDArray[np.bool_]
    weight_masks: NDArray[np.bool_]
    clip: float


def clips_auto(h: Any) -> list[float]:
    """Percentiles of all fit activations among which δ is chosen where none is published."""
    percentiles = (90, 92.5, 95, 97, 98, 99, 99.5, 100)
    return [float(np.percentile(to_array(h), p, method="linear")) for p in percentiles]


def class_contributions(h: Any, y: Any, W: Any, contribution: str = "signed") -> Array:
    """S (C, D): "signed" h̄_c ⊙ W_c; "absolute" the mean over the class of |h ⊙ W_c|.

    For h ≥ 0 the absolute one is |S|; for signed features it is mean(|h|) ⊙ |W_c|.
    """
    h, y, W = to_array(h), to_labels(y), to_array(W)
    if contribution not in ("signed", "absolute"):
        raise ValueError(f"contribution={contribution!r}")
    S = np.zeros(W.shape)
    for c in range(len(W)):
        count = 0
        for n in range(len(h)):
            if y[n] == c:
                term = h[n] * W[c]
                S[c] += term if contribution == "signed" else np.abs(term)
                count += 1
        if count == 0:
            raise ValueError(f"class {c} has no sample")
        S[c] /= count
    return S


def line_fit(
    h: Any,
    y: Any,
    W: Any,
    weight_percentile: float,
    activation_percentile: float,
    clip: float,
    contribution: str = "signed",
) -> LineFit:
    """Masks from unclipped features (N, D), true labels (N,) and the head's weight (C, D).

    m_c = S_c > percentile(S_c, p_a) and M_c = |S_c| ⊙ W > percentile(|S_c| ⊙ W, p_w), the latter
    over all C·D entries with W signed. A percentile is the share removed; linear interpolation,
    strict >.
    """
    W = to_array(W)
    S = class_contributions(h, y, W, contribution)
    C, D = W.shape
    activation_masks = np.zeros((C, D), dtype=bool)
    weight_masks = np.zeros((C, C, D), dtype=bool)
    for c in range(C):
        threshold = np.percentile(S[c], activation_percentile, method="linear")
        for d in range(D):
            activation_masks[c, d] = S[c, d] > threshold
        importance = np.empty((C, D))
        for row in range(C):
            for d in range(D):
                importance[row, d] = abs(S[c, d]) * W[row, d]
        threshold = np.percentile(importance, weight_percentile, method="linear")
        weight_masks[c] = importance > threshold
    return LineFit(S, activation_masks, weight_masks, float(clip))


def line_score(h: Any, W: Any, b: Any | None, fit: LineFit) -> Array:
    """-logsumexp(o), o = (W ⊙ M_ĉ)(h' ⊙ m_ĉ) + b, h' = min(h, δ), ĉ = argmax(W h' + b)."""
    h, W = to_array(h), to_array(W)
    C, D = W.shape
    offset = np.zeros(C) if b is None else to_array(b)
    scores = np.empty(len(h))
    for n in range(len(h)):
        clipped = [min(float(value), fit.clip) for value in h[n]]
        logits = []
        for c in range(C):
            logits.append(math.fsum(W[c, d] * clipped[d] for d in range(D)) + offset[c])
        predicted = int(np.argmax(logits))
        pruned = []
        for c in range(C):
            terms = []
            for d in range(D):
                if fit.weight_masks[predicted, c, d] and fit.activation_masks[predicted, d]:
                    terms.append(W[c, d] * clipped[d])
            pruned.append(math.fsum(terms) + offset[c])
        top = max(pruned)
        scores[n] = -(top + math.log(math.fsum(math.exp(value - top) for value in pruned)))
    return scores
