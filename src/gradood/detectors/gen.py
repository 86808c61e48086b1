"""Generalized entropy."""

from math import isfinite
from typing import final

import torch
from torch import Tensor

from gradood.detectors._shared.attributions import Terms, head_terms
from gradood.detectors._shared.layers import one_logit
from gradood.detectors.base import Detector, Plan, State, require
from gradood.evidence import LOGITS, Evidence
from gradood.functional.entropies import generalized_entropy, log_probabilities
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
        "terms: the path of the logits, which is that of the features, of the M classes that are "
        "the largest for the sample; the reference value is that of the same classes"
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

    def terms(self, evidence: Evidence, state: State, reference: Evidence) -> Terms:
        """See `attribution`."""
        order = evidence.logits.sort(1, descending=True).indices
        counted = torch.zeros_like(order, dtype=torch.bool)
        counted.scatter_(1, order[:, : self.M], True)

        def score(points: Tensor, rows: Tensor) -> Tensor:
            order = points.sort(1, descending=True).indices
            log_p, log_not = log_probabilities(points)
            each = torch.exp(float(self.gamma) * (log_p + log_not))
            return torch.where(counted[rows].gather(1, order), each, 0.0).sum(1)

        return head_terms(None, evidence, reference, score)
