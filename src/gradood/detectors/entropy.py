"""Entropy of the softmax."""

from typing import final

from torch import Tensor

from gradood.detectors._shared.layers import one_logit
from gradood.detectors.base import Detector, Plan, State
from gradood.evidence import LOGITS, Evidence
from gradood.functional.entropies import shannon_entropy
from gradood.taps import Network

__all__ = ["Entropy"]


@final
class Entropy(Detector):
    """Shannon entropy of the softmax probabilities, in nats [chan2021entropy].

    Reads the logits. Assumes that a network spreads its probability over more classes away from
    its training data.

    ``score = −Σ_c p_c log p_c``, p = softmax(z)

    Cost: the forward pass.

    >>> Entropy().name
    'entropy'
    """

    name = "entropy"
    title = "Shannon entropy of the softmax probabilities."
    needs = ("logits",)
    cost = "one forward"
    fails_when = (
        "The network is overconfident away from its data, or known inputs are ambiguous by nature "
        "(fine-grained classes), which is entropy too."
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
        return shannon_entropy(evidence.logits)
