"""Mahalanobis distance."""

import logging
from typing import ClassVar, final

from torch import Tensor

from gradood.detectors.base import Learner, Partial, Plan, State
from gradood.detectors.classes import check_labels, present
from gradood.errors import DataError
from gradood.evidence import FEATURES, Evidence
from gradood.functional.covariance import oracle_shrinkage, squared_distances, whitening
from gradood.functional.moments import ClassMoments
from gradood.taps import Network

__all__ = ["Mahalanobis"]

_LOG = logging.getLogger(__name__)


@final
class Mahalanobis(Learner):
    """Squared Mahalanobis distance to the nearest class mean [lee2018mahalanobis].

    Reads the features; learns class means and one within-class covariance, shrunk toward a
    multiple of the identity by the oracle approximating weight [chen2010oas]. Assumes features of
    every class to be Gaussian with that covariance.

    ``score = min_c (h − μ_c)ᵀ Σ⁻¹ (h − μ_c)``

    Cost: the forward pass; width² multiplications per image; state of width² + classes · width.

    >>> Mahalanobis().name
    'mahalanobis'
    """

    name: ClassVar[str] = "mahalanobis"
    title: ClassVar[str] = "Squared Mahalanobis distance to the nearest class mean."
    paper: ClassVar[str] = "lee2018mahalanobis"
    needs: ClassVar[tuple[str, ...]] = ("features", "labels")
    cost: ClassVar[str] = "one forward; one fit pass; state of width × width"
    fails_when: ClassVar[str] = (
        "Features are far from Gaussian (sparse ReLU features of small CNNs), or fewer samples "
        "than dimensions were given, so that shrinkage decides."
    )

    def plan(self, network: Network, probe: Tensor) -> Plan:
        """Features."""
        return Plan((FEATURES,), fit_reads=(FEATURES,))

    def accumulate(self, evidence: Evidence) -> Partial:
        """Counts, means and scatter."""
        labels = check_labels(evidence, self.name)
        return {
            "moments": ClassMoments.of(evidence.features, labels, evidence.classes, scatter=True)
        }

    def finish(self, partial: Partial, network: Network, plan: Plan) -> State:
        """A whitening transform and the whitened class means."""
        moments: ClassMoments = partial["moments"]
        seen = present(moments, self.name)
        samples = int(moments.count.sum())
        assert moments.scatter is not None
        if float(moments.scatter.diagonal().sum()) <= 0:
            raise DataError(
                f"mahalanobis was fitted on {samples} samples without variance inside any class; "
                "give several different samples of each class."
            )
        covariance, weight = oracle_shrinkage(moments.scatter / samples, samples)
        transform, condition = whitening(covariance)
        _LOG.info(
            "mahalanobis: %d samples, shrinkage %.3g, condition number %.3g",
            samples,
            weight,
            condition,
        )
        return {
            "transform": transform,
            "centers": moments.mean[seen] @ transform,
            "shrinkage": covariance.new_tensor(weight),
            "condition": covariance.new_tensor(condition),
        }

    def measure(self, evidence: Evidence, state: State) -> Tensor:
        """Scores (batch,)."""
        return squared_distances(evidence.features, state["transform"], state["centers"]).amin(1)
