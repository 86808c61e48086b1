"""Joint energy."""

from typing import final

from torch import Tensor

from gradood.detectors.base import Detector, Plan, State
from gradood.evidence import LOGITS, Evidence
from gradood.functional.logits import joint_energy
from gradood.taps import Network

__all__ = ["JointEnergy"]


@final
class JointEnergy(Detector):
    """Sum over labels of the free energy of each, negated [wang2021jointenergy].

    Reads the logits of a multi-label classifier, each of which a sigmoid makes the probability of
    one label. Assumes that training raised the logits of the labels that hold, of which known
    inputs have several. High for known inputs in the paper, negated once here.

    ``score = −Σ_c log(1 + exp(z_c))``

    It is defined for the logits of a softmax too, but these are known up to a constant only, which
    it depends on: there the energy is meant.

    Cost: the forward pass.

    >>> JointEnergy().name
    'joint-energy'
    """

    name = "joint-energy"
    needs = ("logits",)
    cost = "one forward"
    fails_when = (
        "Known inputs differ in how many labels hold, so that the sum counts labels; or the model "
        "ends in a softmax, whose logits are known up to a constant only."
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
        return joint_energy(evidence.logits)
