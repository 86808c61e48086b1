"""Gaussians of classes with one covariance, as state: checked, shrunk and whitened."""

import logging

from torch import Tensor

from gradood.detectors._shared.labels import check_labels, present
from gradood.detectors.base import State
from gradood.errors import DataError
from gradood.evidence import Evidence
from gradood.functional.covariance import oracle_shrinkage, squared_distances, whitening
from gradood.functional.moments import ClassMoments

__all__ = [
    "CLASS_SHAPES",
    "RELATIVE_SHAPES",
    "class_distance",
    "class_gaussians",
    "class_moments",
    "relative_distance",
    "relative_gaussians",
]

CLASS_SHAPES = (
    "transform: float features features",
    "centers: float seen features",
    "shrinkage: float",
    "condition: float",
)
"""The state that `class_gaussians` makes."""
RELATIVE_SHAPES = (
    *CLASS_SHAPES,
    "background_transform: float features features",
    "background_center: float features",
    "background_shrinkage: float",
    "background_condition: float",
)
"""The state that `relative_gaussians` makes."""
_LOG = logging.getLogger(__name__)
_ROUNDING = 1e-12
"""Variance, relative to squared length, that float32 features have where nothing differs."""


def class_moments(features: Tensor, evidence: Evidence, method: str) -> ClassMoments:
    """Counts, means and scatter of the classes of one batch.

    Args:
        features: (batch, width), or what is made of them.
        evidence: with labels.
        method: name of the detector.

    Raises:
        DataError: no labels, or wrong ones.
    """
    labels = check_labels(evidence, method)
    return ClassMoments.of(features, labels, evidence.classes, scatter=True)


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


def relative_gaussians(moments: ClassMoments, method: str) -> State:
    """`class_gaussians`, and one Gaussian for all samples, whatever their class.

    Raises:
        DataError: as there, or all samples are of one class, whose Gaussian is that of all.
    """
    classes = class_gaussians(moments, method)
    samples = int(moments.count.sum())
    if int((moments.count > 0).sum()) < 2:
        raise DataError(
            f"{method} compares each class with all samples, and all {samples} fit samples are of "
            "one class, so every score would be 0; give samples of two classes or more."
        )
    scatter = moments.overall_scatter
    transform, shrinkage, condition = _whitened(scatter, samples, f"{method}, all classes")
    return {
        **classes,
        "background_transform": transform,
        "background_center": moments.overall_mean @ transform,
        "background_shrinkage": shrinkage,
        "background_condition": condition,
    }


def class_distance(features: Tensor, state: State) -> Tensor:
    """(batch,) squared Mahalanobis distance to the nearest class mean."""
    return squared_distances(features, state["transform"], state["centers"]).amin(1)


def relative_distance(features: Tensor, state: State) -> Tensor:
    """(batch,) `class_distance`, less the squared distance to the mean of all samples."""
    center = state["background_center"][None]
    background = squared_distances(features, state["background_transform"], center)[:, 0]
    return class_distance(features, state) - background


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
