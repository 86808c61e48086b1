"""Relative Mahalanobis distance of directions."""

from typing import ClassVar, final

from torch import Tensor

from gradood.detectors.base import Learner, Partial, Plan, State
from gradood.detectors.classes import check_labels
from gradood.detectors.gaussians import (
    background_distance,
    background_gaussian,
    class_distance,
    class_gaussians,
)
from gradood.evidence import FEATURES, Evidence
from gradood.functional.directions import directions
from gradood.functional.moments import ClassMoments
from gradood.taps import Network

__all__ = ["RMDSPlusPlus"]


@final
class RMDSPlusPlus(Learner):
    """Relative Mahalanobis distance of the feature's direction [mueller2025mahalanobis].

    The relative distance of [ren2021rmds] on normalized features. Reads the features; learns, of
    the normalized features, class means with one within-class covariance, and one Gaussian for all
    samples, each covariance shrunk toward a multiple of the identity by the oracle approximating
    weight [chen2010oas]. Assumes directions of every class to be Gaussian with that covariance.

    ``score = min_c (ĥ − μ_c)ᵀ Σ⁻¹ (ĥ − μ_c) − (ĥ − μ₀)ᵀ Σ₀⁻¹ (ĥ − μ₀)`` with ``ĥ = h / ‖h‖₂``,
    and all means and covariances taken from ĥ.

    A zero feature vector has no direction and is scored at the origin.

    Cost: the forward pass; 2 · width² multiplications per image; state of 2 · width² + classes ·
    width.

    >>> RMDSPlusPlus().name
    'rmds++'
    """

    name: ClassVar[str] = "rmds++"
    title: ClassVar[str] = "Relative Mahalanobis distance of the feature's direction."
    paper: ClassVar[str] = "mueller2025mahalanobis"
    needs: ClassVar[tuple[str, ...]] = ("features", "labels")
    cost: ClassVar[str] = "one forward; one fit pass; state of twice width × width"
    fails_when: ClassVar[str] = (
        "The length of the features tells unknown inputs apart, as it is left out, or unknown "
        "inputs leave the space that the classes differ in, where the two distances cancel."
    )

    def plan(self, network: Network, probe: Tensor) -> Plan:
        """Features."""
        return Plan((FEATURES,), fit_reads=(FEATURES,))

    def accumulate(self, evidence: Evidence) -> Partial:
        """Counts, means and scatter of the directions."""
        labels = check_labels(evidence, self.name)
        unit = directions(evidence.features)
        return {"moments": ClassMoments.of(unit, labels, evidence.classes, scatter=True)}

    def finish(self, partial: Partial, network: Network, plan: Plan) -> State:
        """Two whitening transforms, the whitened class means and the whitened overall mean."""
        moments: ClassMoments = partial["moments"]
        return {
            **class_gaussians(moments, self.name),
            **background_gaussian(moments, self.name),
        }

    def measure(self, evidence: Evidence, state: State) -> Tensor:
        """Scores (batch,)."""
        unit = directions(evidence.features)
        return class_distance(unit, state) - background_distance(unit, state)
