"""Maximum softmax probability."""

from typing import final

from torch import Tensor

from gradood.detectors._shared.layers import one_logit
from gradood.detectors.base import Detector, Plan, State
from gradood.evidence import LOGITS, Evidence
from gradood.functional.logits import max_softmax
from gradood.taps import Network

__all__ = ["MSP"]


@final
class MSP(Detector):
    """Maximum softmax probability, negated [hendrycks2017msp].

    Reads the logits. Assumes that a network is less confident away from its training data.

    ``score = −max_c softmax(z)_c``

    Cost: the forward pass.

    >>> MSP().name
    'msp'
    """

    name = "msp"
    title = "Negative maximum softmax probability."
    needs = ("logits",)
    cost = "one forward"
    fails_when = (
        "The network is overconfident away from its data, as most are: far inputs can have "
        "probabilities near one."
    )
    attribution = (
        "logit path: the score is of the logits, whose straight path from the reference's is "
        "that of the features"
    )

    def plan(self, network: Network, probe: Tensor) -> Plan:
        """Logits."""
        return Plan((LOGITS,), caveats=one_logit(network, self.name))

    def measure(self, evidence: Evidence, state: State) -> Tensor:
        """Scores (batch,)."""
        return max_softmax(evidence.logits)
