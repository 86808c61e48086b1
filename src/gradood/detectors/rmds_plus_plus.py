"""Relative Mahalanobis distance of directions."""

from types import MappingProxyType
from typing import final

from torch import Tensor

from gradood.detectors._shared.attributions import Terms
from gradood.detectors._shared.gaussians import (
    RELATIVE_SHAPES,
    Shrinkage,
    check_shrinkage,
    class_moments,
    relative_distance,
    relative_distance_terms,
    relative_gaussians,
)
from gradood.detectors.base import Learner, Plan, State
from gradood.evidence import FEATURES, Evidence
from gradood.functional.directions import directions
from gradood.functional.moments import ClassMoments
from gradood.taps import Network

__all__ = ["RMDSPlusPlus"]


@final
class RMDSPlusPlus(Learner[ClassMoments]):
    """Relative Mahalanobis distance of the feature's direction [mueller2025mahalanobis].

    The relative distance of [ren2021rmds] on normalized features. Reads the features; learns, of
    the normalized features, class means with one within-class covariance, and one Gaussian for all
    samples, each covariance shrunk toward a multiple of the identity by the oracle approximating
    weight [chen2010oas]. Assumes directions of every class to be Gaussian with that covariance.

    ``score = min_c (ĥ − μ_c)ᵀ Σ⁻¹ (ĥ − μ_c) − (ĥ − μ₀)ᵀ Σ₀⁻¹ (ĥ − μ₀)`` with ``ĥ = h / ‖h‖₂``,
    and all means and covariances taken from ĥ.

    A zero feature vector has no direction and is scored at the origin.

    Args:
        shrinkage: ``"oas"``, or ``"none"`` for the covariance as it is and its pseudo-inverse, as
            in the paper's code and in OpenOOD.

    Cost: the forward pass; 2 · width² multiplications per image; state of 2 · width² + classes ·
    width.

    >>> RMDSPlusPlus().name
    'rmds++'
    """

    name = "rmds++"
    needs = ("features", "labels")
    cost = "one forward; one fit pass; state of twice width × width"
    fails_when = (
        "The length of the features tells unknown inputs apart, as it is left out, or unknown "
        "inputs leave the space that the classes differ in, where the two distances cancel."
    )
    attribution = (
        "terms: (h − μ)_d (Σ⁻¹ (h − μ))_d of the class that answers, less the same of all "
        "samples' Gaussian; the reference value is 0, each at its mean; units of the "
        "direction ĥ"
    )
    state_shapes = RELATIVE_SHAPES
    published = MappingProxyType({"shrinkage": "none"})

    def __init__(self, *, shrinkage: Shrinkage = "oas") -> None:
        self.shrinkage: Shrinkage = check_shrinkage(shrinkage)

    def plan(self, network: Network, probe: Tensor) -> Plan:
        """Features."""
        return Plan((FEATURES,), fit_reads=(FEATURES,))

    def accumulate(self, evidence: Evidence) -> ClassMoments:
        """Counts, means and scatter of the directions."""
        return class_moments(directions(evidence.features), evidence, self.name)

    def finish(self, moments: ClassMoments, network: Network, plan: Plan) -> State:
        """Two whitening transforms, the whitened class means and the whitened overall mean."""
        return relative_gaussians(moments, self.name, self.shrinkage)

    def measure(self, evidence: Evidence, state: State) -> Tensor:
        """Scores (batch,)."""
        return relative_distance(directions(evidence.features), state)

    def terms(self, evidence: Evidence, state: State, reference: Evidence) -> Terms:
        """See `attribution`."""
        return relative_distance_terms(directions(evidence.features), state, evidence.classes)
