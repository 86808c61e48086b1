"""Sum of probabilities."""

from typing import final

from torch import Tensor

from gradood.detectors.base import Detector, Plan, State
from gradood.evidence import LOGITS, Evidence
from gradood.functional.logits import probability_sum
from gradood.taps import Network

__all__ = ["ProbabilitySum"]


@final
class ProbabilitySum(Detector):
    """Sum over labels of their probabilities, negated, as in [wang2021jointenergy].

    Reads the logits of a multi-label classifier. The paper compares the joint energy with it: it
    is the number of labels that are expected to hold. Assumes that none holds for unknown inputs.

    ``score = −Σ_c 1 / (1 + exp(−z_c))``

    Cost: the forward pass.

    >>> ProbabilitySum().name
    'probability-sum'
    """

    name = "probability-sum"
    title = "Negative sum of the labels' probabilities."
    needs = ("logits",)
    cost = "one forward"
    fails_when = (
        "The probability of some label is near 1 for known and unknown inputs alike, as it then "
        "hides the others; the joint energy does not saturate."
    )
    attribution = (
        "logit path: the score is of the logits, whose straight path from the reference's is "
        "that of the features"
    )
    links = ("softmax", "sigmoid")

    def plan(self, network: Network, probe: Tensor) -> Plan:
        """Logits."""
        return Plan((LOGITS,))

    def measure(self, evidence: Evidence, state: State) -> Tensor:
        """Scores (batch,)."""
        return probability_sum(evidence.logits)
