"""ExGrad."""

from typing import final

from torch import Tensor

from gradood.detectors._shared.layers import one_logit
from gradood.detectors.base import Detector, Plan, State, require
from gradood.evidence import FEATURES, Evidence
from gradood.functional.exgrad import expected_gradient_norm
from gradood.functional.gradnorm import linear_logits
from gradood.taps import Network

__all__ = ["ExGrad"]


@final
class ExGrad(Detector):
    """Norm of the last layer's gradient expected under the prediction [igoe2022exgrad].

    Reads the features and the head. Assumes that the network would have to change more for labels
    that it finds likely on inputs it does not know. High for OOD in the paper too.

    ``score = Σ_y p_y ‖∂ log p_y / ∂(W, b)‖_q``: exact, without a backward pass; for q = 1 it is
    ``2 (‖h‖₁ + 1) Σ_y p_y (1 − p_y)``.

    Args:
        order: q ≥ 1 of the entrywise norm.
        bias: include the gradient of the head's bias, where it has one, as the released code does.

    Cost: the forward pass.

    >>> ExGrad(bias=False)
    ExGrad(bias=False)
    """

    name = "exgrad"
    needs = ("features", "head")
    cost = "one forward (closed form)"
    fails_when = (
        "Known inputs have the longer features: their length then works against the uncertainty it "
        "multiplies, which alone (entropy, msp) ranks better. The paper's own finding is that "
        "gradients add little."
    )
    attribution = (
        "feature path: the straight path of the features from the reference, on which the "
        "logits follow"
    )

    def __init__(self, *, order: float = 1, bias: bool = True) -> None:
        require(order >= 1, "order", order, "a number ≥ 1")
        self.order = order
        self.bias = bias

    def plan(self, network: Network, probe: Tensor) -> Plan:
        """Features."""
        return Plan((FEATURES,), caveats=one_logit(network, self.name))

    def measure(self, evidence: Evidence, state: State) -> Tensor:
        """Scores (batch,)."""
        head = evidence.linear
        return expected_gradient_norm(
            evidence.features,
            linear_logits(evidence.features, head.weight, head.bias),
            order=float(self.order),
            bias=self.bias and head.bias is not None,
        )
