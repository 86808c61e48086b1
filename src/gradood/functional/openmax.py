"""OpenMax [bendale2016openmax]: the activation of an unknown class."""

from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from gradood.evidence.tracing import tracing
from gradood.functional.moments import ClassMoments
from gradood.functional.weibull import TRANSLATION, Weibull, fit_weibull

__all__ = [
    "Distance",
    "bounded",
    "class_models",
    "distances_to",
    "own_distances",
    "rank_shares",
    "revised_log_odds",
    "tail_models",
    "tail_of",
    "unknown_log_odds",
]

Distance = Literal["cosine", "euclidean", "eucos"]
_EUCOS = 200.0
_APART = 1e-6
_LOWEST = -1e30
_FEWEST, _SHARE, _MOST = 3, 0.02, 20
"""Of a class's distances that are fitted: 2 %, within these bounds."""


def bounded(logits: Float[Tensor, "batch classes"]) -> Float[Tensor, "batch classes"]:
    """Logits of classes that the model rules out by −∞ as a number that can be averaged."""
    return logits.clamp_min(_LOWEST)


def tail_of(samples: int) -> int:
    """How many of the largest distances of a class are fitted if nobody says: 2 %, from 3 to 20.

    Twenty, the published number, are the end of a thousand distances and the whole of twenty.

    Args:
        samples: of the class.
    """
    return min(_MOST, max(_FEWEST, int(_SHARE * samples)))


def class_models(
    logits: Float[Tensor, "batch classes"],
    labels: Int[Tensor, " batch"],
    classes: int,
    kind: Distance,
    tailsize: int | None,
    translation: float = TRANSLATION,
) -> tuple[Float[Tensor, "classes classes"], Weibull]:
    """Mean activation vector of each class, and the Weibull distribution of its largest distances.

    Args:
        logits: z of the samples to learn from.
        labels: their classes.
        classes: how many there are.
        kind: of distance.
        tailsize: how many of the largest distances of a class are fitted; None for `tail_of`.
        translation: see `fit_weibull`.

    Returns:
        The centers, and the distributions; a class whose distances cannot be fitted, because there
        are none or they are equal, has a center at zero and a shape of zero.
    """
    centers = logits.new_zeros(classes, logits.shape[1])
    parameters = logits.new_zeros(3, classes)
    for c in range(classes):
        own = logits[labels == c]
        if len(own) < 3:  # Two samples lie equally far from their mean.
            continue
        count = tail_of(len(own)) if tailsize is None else tailsize
        center = own.mean(0)
        model = _tail_model(own, center, kind, count, translation)
        if model is not None:
            centers[c], parameters[:, c] = center, model
    start, shape, log_scale = parameters
    return centers, Weibull(start.clone(), shape.clone(), log_scale.clone(), translation)


def tail_models(
    logits: Float[Tensor, "batch classes"],
    labels: Int[Tensor, " batch"],
    moments: ClassMoments,
    kind: Distance,
    tailsize: int | None,
    translation: float = TRANSLATION,
) -> tuple[Float[Tensor, "classes classes"], Weibull]:
    """The same of those samples of each class that lie farthest from its mean.

    Args:
        logits: z of these.
        labels: their classes.
        moments: of all samples.
        kind: of distance.
        tailsize: see `class_models`; of all samples.
        translation: see `fit_weibull`.
    """
    classes = len(moments.count)
    centers = logits.new_zeros(classes, logits.shape[1])
    parameters = logits.new_zeros(3, classes)
    for c, seen in enumerate(moments.count.tolist()):
        own = logits[labels == c]
        if len(own) < 3:
            continue
        count = tail_of(seen) if tailsize is None else tailsize
        center = moments.mean[c].to(logits.dtype)
        model = _tail_model(own, center, kind, count, translation)
        if model is not None:
            centers[c], parameters[:, c] = center, model
    start, shape, log_scale = parameters
    return centers, Weibull(start.clone(), shape.clone(), log_scale.clone(), translation)


def _tail_model(
    own: Tensor, center: Tensor, kind: Distance, count: int, translation: float
) -> Tensor | None:
    """(3,) start, shape and log scale of a class's largest distances; None if these are equal."""
    tail = distances_to(own, center[None], kind)[:, 0].sort(descending=True).values[:count]
    if not float(tail[0] - tail[-1]) > _APART * float(tail[0]):
        return None
    model = fit_weibull(tail[None], translation)
    return torch.cat([model.start, model.shape, model.log_scale])


def distances_to(
    logits: Float[Tensor, "batch classes"],
    centers: Float[Tensor, "centers classes"],
    kind: Distance,
) -> Float[Tensor, "batch centers"]:
    """Distances to mean activation vectors.

    Args:
        logits: z.
        centers: μ.
        kind: ``‖z − μ‖``; ``1 − cos(z, μ)``; or ``‖z − μ‖ / 200 + 1 − cos(z, μ)`` as released.
    """
    lengths: Tensor | float = 0.0
    if kind != "cosine":
        if tracing():
            lengths = (logits[:, None] - centers).square().sum(2).sqrt()
        else:
            lengths = torch.cdist(logits, centers, compute_mode="donot_use_mm_for_euclid_dist")
    if kind == "euclidean":
        assert isinstance(lengths, Tensor)
        return lengths
    cosines = _directions(logits) @ _directions(centers).T
    return lengths / _EUCOS + 1.0 - cosines


def own_distances(
    logits: Float[Tensor, "batch classes"],
    centers: Float[Tensor, "batch classes"],
    kind: Distance,
) -> Float[Tensor, " batch"]:
    """Distance of each row to a mean activation vector of its own.

    Args:
        logits: z.
        centers: μ of each.
        kind: see `distances_to`.
    """
    lengths = torch.linalg.vector_norm(logits - centers, dim=1)
    if kind == "euclidean":
        return lengths
    cosines = (_directions(logits) * _directions(centers)).sum(1)
    return (0.0 if kind == "cosine" else lengths / _EUCOS) + 1.0 - cosines


def _directions(vectors: Tensor) -> Tensor:
    """Unit vectors; a zero vector has a cosine of zero with all."""
    length = torch.linalg.vector_norm(vectors, dim=1, keepdim=True)
    return vectors / length.clamp_min(torch.finfo(vectors.dtype).tiny)


def unknown_log_odds(
    logits: Float[Tensor, "batch classes"],
    outlying: Float[Tensor, "batch classes"],
    alpha: int,
) -> Float[Tensor, " batch"]:
    """Log-odds of the unknown class after the activations of the α top classes were revised.

    The class of rank i of α keeps ``z_c (1 − w_c (α + 1 − i)/α)``; what is taken off makes the
    activation of the unknown class. Equal logits rank by their index.

    Args:
        logits: z.
        outlying: w, the probability that z is too far from the mean activation of each class.
        alpha: α, from 1 to classes.
    """
    return revised_log_odds(logits, outlying, rank_shares(logits, alpha))


def rank_shares(
    logits: Float[Tensor, "batch classes"], alpha: int
) -> Float[Tensor, "batch classes"]:
    """``(α + 1 − i)/α`` of the class of rank i of α, and 0 of all others.

    Args:
        logits: z.
        alpha: α, from 1 to classes.
    """
    if tracing():  # In a graph equal values rank by their index.
        ranked = logits.topk(alpha, 1).indices
    else:
        ranked = logits.sort(dim=1, descending=True, stable=True).indices[:, :alpha]
    weights = 1.0 - torch.arange(alpha, dtype=logits.dtype, device=logits.device) / alpha
    return torch.zeros_like(logits).scatter(1, ranked, weights.expand(logits.shape[0], -1))


def revised_log_odds(
    logits: Float[Tensor, "batch classes"],
    outlying: Float[Tensor, "batch classes"],
    share: Float[Tensor, "batch classes"],
) -> Float[Tensor, " batch"]:
    """`unknown_log_odds` with the ranks given.

    Args:
        logits: z.
        outlying: w.
        share: from `rank_shares`.
    """
    taken = logits * outlying * share
    return taken.sum(1) - torch.logsumexp(logits - taken, 1)
