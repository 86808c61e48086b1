"""Relative Mahalanobis distance."""

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
from gradood.functional.moments import ClassMoments
from gradood.taps import Network

__all__ = ["RMDS"]


@final
class RMDS(Learner):
    """Mahalanobis distance to the nearest class, less that to all samples [ren2021rmds].

    Reads the features; learns class means with one within-class covariance, and one Gaussian for
    all samples, each covariance shrunk toward a multiple of the identity by the oracle
    approximating weight [chen2010oas]. Assumes that directions in which classes do not differ say
    nothing about membership; there the two distances cancel.

    ``score = min_c (h − μ_c)ᵀ Σ⁻¹ (h − μ_c) − (h − μ₀)ᵀ Σ₀⁻¹ (h − μ₀)``

    Cost: the forward pass; 2 · width² multiplications per image; state of 2 · width² + classes ·
    width.

    >>> RMDS().name
    'rmds'
    """

    name: ClassVar[str] = "rmds"
    title: ClassVar[str] = "Mahalanobis distance to the nearest class, less that to all samples."
    paper: ClassVar[str] = "ren2021rmds"
    needs: ClassVar[tuple[str, ...]] = ("features", "labels")
    cost: ClassVar[str] = "one forward; one fit pass; state of twice width × width"
    fails_when: ClassVar[str] = (
        "Unknown inputs leave the space that the classes differ in: what both Gaussians find far "
        "cancels. Made for near-OOD, and for two classes or more."
    )

    def plan(self, network: Network, probe: Tensor) -> Plan:
        """Features."""
        return Plan((FEATURES,), fit_reads=(FEATURES,))

    def accumulate(self, evidence: Evidence) -> Partial:
        """Counts, means and scatter."""
        labels = check_labels(evidence, self.name)
        features = evidence.features
        return {"moments": ClassMoments.of(features, labels, evidence.classes, scatter=True)}

    def finish(self, partial: Partial, network: Network, plan: Plan) -> State:
        """Two whitening transforms, the whitened class means and the whitened overall mean."""
        moments: ClassMoments = partial["moments"]
        return {
            **class_gaussians(moments, self.name),
            **background_gaussian(moments, self.name),
        }

    def measure(self, evidence: Evidence, state: State) -> Tensor:
        """Scores (batch,)."""
        features = evidence.features
        return class_distance(features, state) - background_distance(features, state)
