"""Share of the feature's projection."""

from typing import final

from torch import Tensor

from gradood.detectors._shared.subspaces import span
from gradood.detectors.base import Learner, Plan, State, require
from gradood.errors import TapError
from gradood.evidence import FEATURES, Evidence
from gradood.functional.moments import ClassMoments
from gradood.functional.subspace import part_share
from gradood.taps import Network

__all__ = ["ProjectionShare"]


@final
class ProjectionShare(Learner[ClassMoments]):
    """Share of the feature in the subspace of the fit features, as in [behpour2023gradorth].

    Reads the features; learns their second moment about zero, whose leading eigenvectors span the
    subspace that GradOrth projects a gradient onto. Assumes that features of unknown inputs lie
    partly outside of it. High for known inputs, and negated once here.

    ``score = −‖Sᵀ h‖₂ / ‖h‖₂`` with S the first k right singular vectors of the fit features, k the
    least with ``Σ_{i≤k} σ_i² ≥ ε_th Σ_i σ_i²``.

    No paper proposes this score. GradOrth's is the product of this share with the length of the
    gradient; an audit of this project found that the share alone tells more than the product. It
    is close to NECO, which takes the share of features about their mean, and to the
    residual, which takes the length outside and not its share. A feature that is all zero scores 0,
    the highest.

    Args:
        threshold: ε_th, above 0, at most 1; GradOrth's.

    Cost: the forward pass; width² multiplications per image; state of width × width.

    >>> ProjectionShare(threshold=0.9)
    ProjectionShare(threshold=0.9)
    """

    name = "projection-share"
    title = "Negative share of the feature's length in the fit features' subspace."
    needs = ("features",)
    cost = "one forward; one fit pass; state of width × width"
    fails_when = (
        "Features fill their space, so that the subspace holds most of any (few features, many "
        "classes), or unknown inputs share the known ones' directions, as near ones do."
    )
    attribution = (
        "feature path: the straight path of the features from the reference, on which the "
        "logits follow"
    )
    labels = False
    state_shapes = ("projection: float features features",)

    def __init__(self, *, threshold: float = 0.97) -> None:
        require(0 < threshold <= 1, "threshold", threshold, "a number above 0, at most 1")
        self.threshold = threshold

    def plan(self, network: Network, probe: Tensor) -> Plan:
        """Features."""
        if network.head.width < 2:
            raise TapError(
                "projection-share compares directions of the features, and this model has one; "
                "expected two or more. Leave projection-share out."
            )
        return Plan((FEATURES,), fit_reads=(FEATURES,))

    def accumulate(self, evidence: Evidence) -> ClassMoments:
        """Mean and scatter of the features."""
        return ClassMoments.together(evidence.features, scatter=True)

    def finish(self, moments: ClassMoments, network: Network, plan: Plan) -> State:
        """The projection onto the subspace."""
        return {"projection": span(moments, float(self.threshold), self.name)}

    def measure(self, evidence: Evidence, state: State) -> Tensor:
        """Scores (batch,)."""
        return -part_share(evidence.features, state["projection"])
