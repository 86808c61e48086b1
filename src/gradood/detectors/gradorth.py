"""GradOrth."""

import logging
from typing import final

import torch
from torch import Tensor

from gradood.detectors._shared.labels import present
from gradood.detectors._shared.layers import attention_caveat, one_logit
from gradood.detectors.base import Learner, Plan, State, require
from gradood.errors import DataError
from gradood.evidence import FEATURES, Evidence
from gradood.functional.gradnorm import last_layer_gradient_norm, linear_logits
from gradood.functional.moments import ClassMoments
from gradood.functional.subspace import explained_dimension, part_norm, principal
from gradood.taps import Network

__all__ = ["GradOrth"]

_LOG = logging.getLogger(__name__)


@final
class GradOrth(Learner[ClassMoments]):
    """Length of the last layer's gradient in the features' subspace [behpour2023gradorth].

    Reads the features and the head; learns the features' second moment about zero, whose leading
    eigenvectors are the leading singular vectors of the feature matrix. Assumes that gradients of
    unknown inputs lie largely outside their span. The gradient is that of the cross-entropy with
    uniform targets, of rank one, so that only its feature factor is projected. The paper scores ID
    high; negated once here.

    ``score = −‖(p − 1/C) hᵀ S Sᵀ‖_F = −‖p − 1/C‖₂ ‖Sᵀ h‖₂`` with S the first k right singular
    vectors of the fit features, k the least with ``Σ_{i≤k} σ_i² ≥ ε_th Σ_i σ_i²``.

    Args:
        threshold: ε_th, above 0, at most 1.

    Cost: the forward pass; width² multiplications per image; state of width × width.

    >>> GradOrth(threshold=0.9)
    GradOrth(threshold=0.9)
    """

    name = "gradorth"
    title = "Negative length of the last layer's gradient in the features' subspace."
    needs = ("features", "head")
    cost = "one forward (closed form); one fit pass; state of width × width"
    fails_when = (
        "Where gradnorm fails: features are signed or normalized, as in transformers, or the "
        "network is small and confident, as most of the score is the length of the gradient."
    )
    labels = False
    state_shapes = ("projection: float features features",)

    def __init__(self, *, threshold: float = 0.97) -> None:
        require(0 < threshold <= 1, "threshold", threshold, "a number above 0, at most 1")
        self.threshold = threshold

    def plan(self, network: Network, probe: Tensor) -> Plan:
        """Features."""
        caveats = one_logit(network, self.name)
        caveats += attention_caveat(network, "gradorth, gradnorm of order 2 inside a subspace,")
        return Plan((FEATURES,), fit_reads=(FEATURES,), caveats=caveats)

    def accumulate(self, evidence: Evidence) -> ClassMoments:
        """Mean and scatter of the features."""
        return ClassMoments.together(evidence.features, scatter=True)

    def finish(self, moments: ClassMoments, network: Network, plan: Plan) -> State:
        """The projection onto the subspace."""
        present(moments, self.name)
        assert moments.scatter is not None
        mean = moments.mean[0]
        moment = moments.scatter / moments.count[0] + torch.outer(mean, mean)
        if float(moment.diagonal().sum()) <= 0:
            raise DataError(
                "gradorth was fitted on features that are all zero, which span no subspace; give "
                "inputs that the network responds to."
            )
        dimension = explained_dimension(moment, float(self.threshold))
        _LOG.info("gradorth: %d of %d dimensions", dimension, len(mean))
        return {"projection": principal(moment, dimension)}

    def measure(self, evidence: Evidence, state: State) -> Tensor:
        """Scores (batch,)."""
        head = evidence.linear
        logits = linear_logits(evidence.features, head.weight, head.bias)
        ones = evidence.features.new_ones(evidence.size, 1)
        left = last_layer_gradient_norm(ones, logits, order=2.0)
        return -left * part_norm(evidence.features, state["projection"])
