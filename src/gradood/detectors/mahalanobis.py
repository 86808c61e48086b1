"""Mahalanobis distance."""

from types import MappingProxyType
from typing import final

from torch import Tensor

from gradood.detectors._shared.attributions import Terms
from gradood.detectors._shared.gaussians import (
    CLASS_SHAPES,
    Shrinkage,
    check_shrinkage,
    class_distance,
    class_distance_terms,
    class_gaussians,
    class_moments,
)
from gradood.detectors.base import Learner, Plan, State
from gradood.evidence import FEATURES, Evidence
from gradood.functional.moments import ClassMoments
from gradood.taps import Network

__all__ = ["Mahalanobis"]


@final
class Mahalanobis(Learner[ClassMoments]):
    """Squared Mahalanobis distance to the nearest class mean [lee2018mahalanobis].

    Reads the features; learns class means and one within-class covariance, shrunk toward a
    multiple of the identity by the oracle approximating weight [chen2010oas]. Assumes features of
    every class to be Gaussian with that covariance.

    ``score = min_c (h − μ_c)ᵀ Σ⁻¹ (h − μ_c)``

    Args:
        shrinkage: ``"oas"``, or ``"none"`` for the covariance as it is and its pseudo-inverse, as
            in the paper's code and in OpenOOD.

    Cost: the forward pass; width² multiplications per image; state of width² + classes · width.

    >>> Mahalanobis().name
    'mahalanobis'
    """

    name = "mahalanobis"
    needs = ("features", "labels")
    cost = "one forward; one fit pass; state of width × width"
    fails_when = (
        "Features are far from Gaussian (sparse ReLU features of small CNNs), or fewer samples "
        "than dimensions were given, so that shrinkage decides."
    )
    attribution = (
        "terms: (h − μ)_d (Σ⁻¹ (h − μ))_d of the class that answers; the reference value is "
        "0, at its mean"
    )
    state_shapes = CLASS_SHAPES
    published = MappingProxyType({"shrinkage": "none"})
    links = ("softmax", "sigmoid", "none")

    def __init__(self, *, shrinkage: Shrinkage = "oas") -> None:
        self.shrinkage: Shrinkage = check_shrinkage(shrinkage)

    def plan(self, network: Network, probe: Tensor) -> Plan:
        """Features."""
        return Plan((FEATURES,), fit_reads=(FEATURES,))

    def accumulate(self, evidence: Evidence) -> ClassMoments:
        """Counts, means and scatter."""
        return class_moments(evidence.features, evidence, self.name)

    def finish(self, moments: ClassMoments, network: Network, plan: Plan) -> State:
        """A whitening transform and the whitened class means."""
        return class_gaussians(moments, self.name, self.shrinkage)

    def measure(self, evidence: Evidence, state: State) -> Tensor:
        """Scores (batch,)."""
        return class_distance(evidence.features, state)

    def terms(self, evidence: Evidence, state: State, reference: Evidence) -> Terms:
        """See `attribution`."""
        return class_distance_terms(evidence.features, state, evidence.classes)
