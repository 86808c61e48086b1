"""Generalized entropy."""

from math import isfinite
from typing import final

from torch import Tensor

from gradood.detectors._shared.layers import one_logit
from gradood.detectors.base import Detector, Plan, State, require
from gradood.evidence import LOGITS, Evidence
from gradood.functional.entropies import generalized_entropy
from gradood.taps import Network

__all__ = ["GEN"]


@final
class GEN(Detector):
    """Generalized entropy of the largest softmax probabilities [liu2023gen].

    Reads the logits. Assumes that known inputs have probabilities nearer to 0 and 1; a small γ
    makes the score sensitive to how near. The paper's sign (high is ID) is turned once, here.

    ``score = Σ_c p_c^γ (1 − p_c)^γ`` over the M largest p = softmax(z)

    Args:
        gamma: γ > 0; the paper's is 0.1.
        M: how many classes are summed over; all of them if there are fewer.

    Cost: the forward pass and a sort of the logits.

    >>> GEN(M=10)
    GEN(M=10)
    """

    name = "gen"
    needs = ("logits",)
    cost = "one forward"
    fails_when = (
        "The probabilities of unlikely classes are noise (label smoothing, thousands of classes "
        "with a large M), or the network is overconfident away from its data."
    )
    attribution = (
        "logit path: the score is of the logits, whose straight path from the reference's is "
        "that of the features"
    )

    def __init__(self, *, gamma: float = 0.1, M: int = 100) -> None:
        require(0 < gamma and isfinite(gamma), "gamma", gamma, "a number > 0")
        require(isinstance(M, int) and M > 0, "M", M, "a whole number > 0")
        self.gamma = gamma
        self.M = M

    def plan(self, network: Network, probe: Tensor) -> Plan:
        """Logits."""
        return Plan((LOGITS,), caveats=one_logit(network, self.name))

    def measure(self, evidence: Evidence, state: State) -> Tensor:
        """Scores (batch,)."""
        return generalized_entropy(evidence.logits, float(self.gamma), self.M)
