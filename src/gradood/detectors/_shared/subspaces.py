"""Principal and residual spaces of the features, as state: checked against network and fit."""

import logging
from typing import Literal

import torch
from torch import Tensor

from gradood.detectors._shared.fit_data import check_finite, warn_of_fit
from gradood.detectors._shared.labels import present
from gradood.detectors.base import State
from gradood.errors import ConfigError, DataError
from gradood.functional.moments import ClassMoments
from gradood.functional.subspace import (
    explained_dimension,
    head_origin,
    part_norm,
    principal,
    residual,
)
from gradood.taps import Network

__all__ = [
    "check_fit",
    "principal_dimension",
    "residual_norm",
    "residual_space",
    "span",
    "warn_of_full_space",
]

_LOG = logging.getLogger(__name__)

_PER_DIRECTION = 10


def principal_dimension(
    network: Network, dimension: int | Literal["auto"], method: str, samples: int | None = None
) -> int:
    """The number of principal directions of the features.

    Args:
        network: the observed model.
        dimension: as asked for; ``"auto"`` is 1000 for 2048 features and more, 512 for 768 and
            more, as released with ViM, and half of the features below that.
        method: name of the detector.
        samples: fit samples, of which ``"auto"`` asks for ten per direction; None asks for none.

    Raises:
        ConfigError: nothing would be left outside of the subspace.
    """
    width = network.head.width
    if dimension == "auto":
        published = 1000 if width >= 2048 else 512 if width >= 768 else width // 2
        return published if samples is None else min(published, max(1, samples // _PER_DIRECTION))
    if dimension >= width:
        raise ConfigError(
            f"{method} with dimension={dimension} leaves nothing outside the principal space of "
            f"this model's {width} features; give less than {width}, or dimension='auto'."
        )
    return dimension


def check_fit(moments: ClassMoments, method: str) -> None:
    """Check the moments of a fit without labels.

    Raises:
        DataError: no sample, or features that are not finite.
    """
    if int(moments.count.sum()) == 0:
        raise DataError(f"{method} was given no fit sample; give in-distribution training data.")
    check_finite(moments.mean, method)


def warn_of_full_space(moments: ClassMoments, dimension: int, method: str) -> None:
    """Warn where so few samples were fitted on that the principal space holds them all.

    Args:
        moments: of the fit samples.
        dimension: of the principal space.
        method: name of the detector.
    """
    samples = int(moments.count.sum())
    if samples <= dimension:
        warn_of_fit(
            f"{method} was fitted on {samples} samples, which a principal space of {dimension} "
            f"dimensions holds all, so that its score says little; fit on several times "
            f"{dimension}, or give a smaller dimension."
        )


def residual_space(
    moments: ClassMoments, network: Network, dimension: int, *, origin: Literal["head", "mean"]
) -> State:
    """The space outside the principal directions of the fit features about an origin.

    Args:
        moments: of all fit samples as one class, with scatter.
        network: whose head gives the origin ``−W⁺ b``.
        dimension: from `principal_dimension`.
        origin: where the head needs no bias, or the mean of the fit features.

    Returns:
        The origin, and R with ``‖R (h − origin)‖`` the length outside.
    """
    assert moments.scatter is not None
    mean = moments.overall_mean
    start = mean.clone()
    if origin == "head":
        head = network.head
        start = head_origin(head.weight, head.bias).to(mean)
    shift = mean - start
    moment = moments.scatter / int(moments.count.sum()) + torch.outer(shift, shift)
    return {"origin": start, "residual": residual(moment, dimension)}


def residual_norm(features: Tensor, state: State) -> Tensor:
    """(batch,) length of each feature outside the principal space, in float64."""
    return part_norm(features.double() - state["origin"], state["residual"])


def span(moments: ClassMoments, threshold: float, method: str) -> Tensor:
    """The projection onto the directions that hold a share of the features' second moment.

    Args:
        moments: of all fit samples as one class, with scatter.
        threshold: the share, above 0, at most 1.
        method: name of the detector.

    Raises:
        DataError: no sample, or features that are not finite or all zero.
    """
    present(moments, method)
    assert moments.scatter is not None
    mean = moments.mean[0]
    moment = moments.scatter / moments.count[0] + torch.outer(mean, mean)
    if float(moment.diagonal().sum()) <= 0:
        raise DataError(
            f"{method} was fitted on features that are all zero, which span no subspace; give "
            "inputs that the network responds to."
        )
    dimension = explained_dimension(moment, threshold)
    _LOG.info("%s: %d of %d dimensions", method, dimension, len(mean))
    return principal(moment, dimension)
