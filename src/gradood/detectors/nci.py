"""NCI."""

from math import isfinite
from typing import final

import torch
from torch import Tensor

from gradood.detectors._shared.attributions import Terms
from gradood.detectors._shared.subspaces import check_fit
from gradood.detectors.base import Learner, Plan, State, require
from gradood.evidence import FEATURES, LOGITS, Evidence
from gradood.functional.directions import directions
from gradood.functional.moments import ClassMoments
from gradood.functional.nci import weight_proximity
from gradood.taps import Network

__all__ = ["NCI"]


@final
class NCI(Learner[ClassMoments]):
    """Proximity of the centered feature to the predicted class's weights [liu2025nci].

    Reads the features, the logits and the head; learns the mean of the features. Assumes neural
    collapse: centered features of known inputs point along the weights of their class, and lie
    farther from the origin than those of unknown ones. High-is-ID in the paper, negated once here.

    ``score = −(w_ĉ · (h − μ)/‖h − μ‖₂ + α ‖h‖₁)`` with ĉ the predicted class.

    A feature that is the mean itself points nowhere; its first term is zero.

    Args:
        alpha: α ≥ 0, weight of the length. The default is that of OpenOOD, which searches 1e-4 to
            0.1 on validation data with outliers; features of another scale ask for another.

    Cost: the forward pass; width multiplications per image; state of width numbers.

    >>> NCI(alpha=0.001)
    NCI(alpha=0.001)
    """

    name = "nci"
    title = "Negative proximity of the feature to the predicted class's weights."
    needs = ("features", "logits", "head")
    cost = "one forward; one fit pass; state of width numbers"
    fails_when = (
        "The network is far from neural collapse (little trained, or low training accuracy), or "
        "alpha does not fit the length of the features, which it weighs absolutely."
    )
    attribution = "terms: −w_ĉd (h − μ)_d / ‖h − μ‖ − α |h_d|; the reference value is 0"
    labels = False
    state_shapes = ("mean: float features",)

    def __init__(self, *, alpha: float = 1e-4) -> None:
        require(alpha >= 0 and isfinite(alpha), "alpha", alpha, "a number ≥ 0")
        self.alpha = alpha

    def plan(self, network: Network, probe: Tensor) -> Plan:
        """Features and logits."""
        return Plan((FEATURES, LOGITS), fit_reads=(FEATURES,))

    def accumulate(self, evidence: Evidence) -> ClassMoments:
        """The mean."""
        return ClassMoments.together(evidence.features)

    def finish(self, moments: ClassMoments, network: Network, plan: Plan) -> State:
        """The mean."""
        check_fit(moments, self.name)
        return {"mean": moments.overall_mean}

    def measure(self, evidence: Evidence, state: State) -> Tensor:
        """Scores (batch,)."""
        features, predicted = evidence.features, evidence.logits.argmax(1)
        near = weight_proximity(features, state["mean"], evidence.linear.weight, predicted)
        length = torch.linalg.vector_norm(features.double(), 1, dim=1)
        return -(near + float(self.alpha) * length)

    def terms(self, evidence: Evidence, state: State, reference: Evidence) -> Terms:
        """See `attribution`."""
        weight = evidence.linear.weight.double()[evidence.logits.argmax(1)]
        wide = evidence.features.double()
        units = -(weight * directions(wide - state["mean"]) + float(self.alpha) * wide.abs())
        return Terms(units, units.new_zeros(len(units)))
