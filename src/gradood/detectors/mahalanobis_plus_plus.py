"""Mahalanobis++."""

from typing import ClassVar, final

from torch import Tensor

from gradood.detectors.base import Learner, Partial, Plan, State
from gradood.detectors.classes import check_labels
from gradood.detectors.gaussians import class_distance, class_gaussians
from gradood.evidence import FEATURES, Evidence
from gradood.functional.directions import directions
from gradood.functional.moments import ClassMoments
from gradood.taps import Network

__all__ = ["MahalanobisPlusPlus"]


@final
class MahalanobisPlusPlus(Learner):
    """Squared Mahalanobis distance of the feature's direction [mueller2025mahalanobis].

    Reads the features; learns class means and one within-class covariance of the normalized
    features, shrunk toward a multiple of the identity by the oracle approximating weight
    [chen2010oas]. Assumes directions of every class to be Gaussian with that covariance; lengths,
    which vary most and break that assumption, are left out.

    ``score = min_c (ĥ − μ_c)ᵀ Σ⁻¹ (ĥ − μ_c)`` with ``ĥ = h / ‖h‖₂``, μ and Σ taken from ĥ.

    A zero feature vector has no direction and is scored at the origin.

    Cost: the forward pass; width² multiplications per image; state of width² + classes · width.

    >>> MahalanobisPlusPlus().name
    'mahalanobis++'
    """

    name: ClassVar[str] = "mahalanobis++"
    title: ClassVar[str] = "Squared Mahalanobis distance of the feature's direction."
    paper: ClassVar[str] = "mueller2025mahalanobis"
    needs: ClassVar[tuple[str, ...]] = ("features", "labels")
    cost: ClassVar[str] = "one forward; one fit pass; state of width × width"
    fails_when: ClassVar[str] = (
        "The length of the features tells unknown inputs apart (often on small CNNs), as it is "
        "left out, or fewer samples than dimensions were given, so that shrinkage decides."
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
        """A whitening transform and the whitened class means."""
        return class_gaussians(partial["moments"], self.name)

    def measure(self, evidence: Evidence, state: State) -> Tensor:
        """Scores (batch,)."""
        return class_distance(directions(evidence.features), state)
