"""Gaussians with one covariance, as state: checked, shrunk, whitened, and their condition told."""

import logging

from torch import Tensor

from gradood.detectors.base import State
from gradood.detectors.classes import present
from gradood.errors import DataError
from gradood.functional.covariance import oracle_shrinkage, squared_distances, whitening
from gradood.functional.moments import ClassMoments

__all__ = ["background_distance", "background_gaussian", "class_distance", "class_gaussians"]

_LOG = logging.getLogger(__name__)
_ROUNDING = 1e-12
"""Variance, relative to squared length, that float32 features have where nothing differs."""


def class_gaussians(moments: ClassMoments, method: str) -> State:
    """A Gaussian per class that occurs, with the covariance within classes that all share.

    Returns:
        The whitening transform, the whitened class means, shrinkage and condition number.

    Raises:
        DataError: no sample, features that are not finite, or no variance inside any class.
    """
    seen = present(moments, method)
    samples = int(moments.count.sum())
    assert moments.scatter is not None
    # Features that differ by rounding alone, as normalized constant ones do, are all the same.
    lengths = moments.mean.square().sum(1) * moments.count
    if float(moments.scatter.diagonal().sum()) <= _ROUNDING * float(lengths.sum()):
        raise DataError(
            f"{method} was fitted on {samples} samples without variance inside any class; "
            "give several different samples of each class."
        )
    transform, shrinkage, condition = _whitened(moments.scatter, samples, method)
    return {
        "transform": transform,
        "centers": moments.mean[seen] @ transform,
        "shrinkage": shrinkage,
        "condition": condition,
    }


def background_gaussian(moments: ClassMoments, method: str) -> State:
    """One Gaussian for all samples, whatever their class; after `class_gaussians` has checked.

    Raises:
        DataError: all samples are of one class, whose Gaussian is this one.
    """
    samples = int(moments.count.sum())
    if int((moments.count > 0).sum()) < 2:
        raise DataError(
            f"{method} compares each class with all samples, and all {samples} fit samples are of "
            "one class, so every score would be 0; give samples of two classes or more."
        )
    scatter = moments.overall_scatter
    transform, shrinkage, condition = _whitened(scatter, samples, f"{method}, all classes")
    return {
        "background_transform": transform,
        "background_center": moments.overall_mean @ transform,
        "background_shrinkage": shrinkage,
        "background_condition": condition,
    }


def class_distance(features: Tensor, state: State) -> Tensor:
    """(batch,) squared Mahalanobis distance to the nearest class mean."""
    return squared_distances(features, state["transform"], state["centers"]).amin(1)


def background_distance(features: Tensor, state: State) -> Tensor:
    """(batch,) squared Mahalanobis distance to the mean of all samples."""
    center = state["background_center"][None]
    return squared_distances(features, state["background_transform"], center)[:, 0]


def _whitened(scatter: Tensor, samples: int, method: str) -> tuple[Tensor, Tensor, Tensor]:
    covariance, weight = oracle_shrinkage(scatter / samples, samples)
    transform, condition = whitening(covariance)
    _LOG.info(
        "%s: %d samples, shrinkage %.3g, condition number %.3g",
        method,
        samples,
        weight,
        condition,
    )
    return transform, covariance.new_tensor(weight), covariance.new_tensor(condition)
