"""GradOrth."""

from typing import final

from torch import Tensor

from gradood.detectors._shared.layers import attention_caveat, one_logit
from gradood.detectors._shared.subspaces import span
from gradood.detectors.base import Learner, Plan, State, require
from gradood.evidence import FEATURES, Evidence
from gradood.functional.gradnorm import last_layer_gradient_norm, linear_logits
from gradood.functional.moments import ClassMoments
from gradood.functional.subspace import part_norm
from gradood.taps import Network

__all__ = ["GradOrth"]


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

    Not reproduced: the authors released no code, and the paper's equation could not be read here.
    This is the score as accounts of the paper describe it, and on a DenseNet-101 for CIFAR-10 it
    tells SVHN at an AUROC of 90, where 98.7 was published. Its second factor alone, as a share of
    the feature's length, does (`projection-share`).

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
        "Always in doubt: published figures were not reproduced, and no code was released. Where "
        "gradnorm fails: features are signed or normalized, as in transformers, or the network is "
        "small and confident, as most of the score is the length of the gradient."
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
        caveats = one_logit(network, self.name)
        caveats += attention_caveat(network, "gradorth, gradnorm of order 2 inside a subspace,")
        return Plan((FEATURES,), fit_reads=(FEATURES,), caveats=caveats)

    def accumulate(self, evidence: Evidence) -> ClassMoments:
        """Mean and scatter of the features."""
        return ClassMoments.together(evidence.features, scatter=True)

    def finish(self, moments: ClassMoments, network: Network, plan: Plan) -> State:
        """The projection onto the subspace."""
        return {"projection": span(moments, float(self.threshold), self.name)}

    def measure(self, evidence: Evidence, state: State) -> Tensor:
        """Scores (batch,)."""
        head = evidence.linear
        logits = linear_logits(evidence.features, head.weight, head.bias)
        ones = evidence.features.new_ones(evidence.size, 1)
        left = last_layer_gradient_norm(ones, logits, order=2.0)
        return -left * part_norm(evidence.features, state["projection"])
