"""Gaussians of classes with one covariance, as state: checked, shrunk and whitened."""

import logging
from typing import Literal

import torch
from torch import Tensor

from gradood.detectors._shared.attributions import Terms, at_class
from gradood.detectors._shared.fit_data import warn_of_fit
from gradood.detectors._shared.labels import check_labels, present
from gradood.detectors.base import State, require
from gradood.errors import DataError
from gradood.evidence import Evidence
from gradood.functional.covariance import (
    oracle_shrinkage,
    pseudo_whitening,
    squared_distances,
    whitening,
)
from gradood.functional.moments import ClassMoments

__all__ = [
    "CLASS_SHAPES",
    "RELATIVE_SHAPES",
    "Shrinkage",
    "check_shrinkage",
    "class_distance",
    "class_distance_terms",
    "class_gaussians",
    "class_moments",
    "relative_distance",
    "relative_distance_terms",
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
Shrinkage = Literal["oas", "none"]
"""How a covariance is shrunk before it is inverted."""
_LOG = logging.getLogger(__name__)
_ROUNDING = 1e-12
"""Variance, relative to squared length, that float32 features have where nothing differs."""


def check_shrinkage(shrinkage: Shrinkage) -> Shrinkage:
    """The option, checked.

    Raises:
        ConfigError: it is neither of the two.
    """
    require(shrinkage in ("oas", "none"), "shrinkage", shrinkage, "'oas' or 'none'")
    return shrinkage


def class_moments(features: Tensor, evidence: Evidence, method: str) -> ClassMoments:
    """Counts, means and scatter of the classes of one batch.

    Where several labels may hold, a sample counts in each of its classes, and not without any.

    Args:
        features: (batch, width), or what is made of them.
        evidence: with labels.
        method: name of the detector.

    Raises:
        DataError: no labels, or wrong ones.
    """
    labels = check_labels(evidence, method)
    if labels.ndim == 2:
        rows, labels = labels.nonzero(as_tuple=True)
        features = features[rows]
    return ClassMoments.of(features, labels, evidence.classes, scatter=True)


def class_gaussians(moments: ClassMoments, method: str, shrinkage: Shrinkage) -> State:
    """A Gaussian per class that occurs, with the covariance within classes that all share.

    Without shrinkage, warns where there are fewer samples than directions to know.

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
    known, width = samples - int(seen.sum()), moments.mean.shape[1]
    if shrinkage == "none" and known < width:
        warn_of_fit(
            f"{method} with shrinkage='none' was fitted on {samples} samples of "
            f"{int(seen.sum())} classes, which span {known} of {width} directions; the others are "
            f"left out. Fit on several times {width}, or leave shrinkage at 'oas'."
        )
    transform, weight, condition = _whitened(moments.scatter, samples, method, shrinkage)
    return {
        "transform": transform,
        "centers": moments.mean[seen] @ transform,
        "shrinkage": weight,
        "condition": condition,
    }


def relative_gaussians(moments: ClassMoments, method: str, shrinkage: Shrinkage) -> State:
    """`class_gaussians`, and one Gaussian for all samples, whatever their class.

    Raises:
        DataError: as there, or all samples are of one class, whose Gaussian is that of all.
    """
    classes = class_gaussians(moments, method, shrinkage)
    samples = int(moments.count.sum())
    if int((moments.count > 0).sum()) < 2:
        raise DataError(
            f"{method} compares each class with all samples, and all {samples} fit samples are of "
            "one class, so every score would be 0; give samples of two classes or more."
        )
    scatter = moments.overall_scatter
    transform, weight, condition = _whitened(scatter, samples, f"{method}, all classes", shrinkage)
    return {
        **classes,
        "background_transform": transform,
        "background_center": moments.overall_mean @ transform,
        "background_shrinkage": weight,
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


def class_distance_terms(features: Tensor, state: State, classes: int) -> Terms:
    """`class_distance` as ``Σ_d (h − μ)_d (T T (h − μ))_d`` of the class that answers.

    Classes are given where all of them were fitted, whose places are then those of the centers.
    """
    transform, centers = state["transform"], state["centers"]
    nearest = squared_distances(features, transform, centers).argmin(1)
    units = _quadratic_terms(features, transform, centers[nearest])
    total = units.sum(1)
    table = at_class(total, nearest, classes) if len(centers) == classes else None
    return Terms(units, torch.zeros_like(total), classes=table)


def relative_distance_terms(features: Tensor, state: State, classes: int) -> Terms:
    """`relative_distance` as terms of both distances."""
    found = class_distance_terms(features, state, classes)
    center = state["background_center"].expand(len(features), -1)
    background = _quadratic_terms(features, state["background_transform"], center)
    return Terms(found.units - background, found.reference)


def _quadratic_terms(features: Tensor, transform: Tensor, centers: Tensor) -> Tensor:
    """(batch, width); the mean is taken from its transform, which may have no inverse."""
    wide = features.double()
    white = wide @ transform - centers
    means = centers @ torch.linalg.pinv(transform, hermitian=True)
    return (wide - means) * (white @ transform)


def _whitened(
    scatter: Tensor, samples: int, method: str, shrinkage: Shrinkage
) -> tuple[Tensor, Tensor, Tensor]:
    covariance, weight = scatter / samples, 0.0
    if shrinkage == "oas":
        covariance, weight = oracle_shrinkage(covariance, samples)
        transform, condition = whitening(covariance)
    else:
        transform, condition = pseudo_whitening(covariance)
    _LOG.info(
        "%s: %d samples, shrinkage %.3g, condition number %.3g",
        method,
        samples,
        weight,
        condition,
    )
    return transform, covariance.new_tensor(weight), covariance.new_tensor(condition)
