"""LTS."""

from typing import final

from torch import Tensor

from gradood.detectors._shared.shaping import (
    SPARSE_FAILURE,
    check_percentile,
    check_score,
    measured,
    shaped_plan,
)
from gradood.detectors.base import Detector, Plan, State
from gradood.evidence import LOGITS, Evidence
from gradood.functional.shaping import logit_scale
from gradood.taps import Network

__all__ = ["LTS"]


@final
class LTS(Detector):
    """A logit score of logits scaled by how spread out the activations are [djurisic2024lts].

    Reads the features and the head. Assumes that known inputs have more activation outside the
    largest units. Negative units count as zero, as released.

    ``score = s((Σh⁺ / Σ(h⁺ ⊙ m))² · (W h + b))``, m_d = 1 for the largest units of the row

    Args:
        percentile: share of units left out of the lower sum, 0 to below 100; released settings
            use 95, the largest 5 %.
        score: the logit score s: the name of a detector that reads logits alone and learns
            nothing, or an instance of one. A monitor with a name can be saved.

    Cost: the forward pass, a selection of the largest units and one product with the head.

    >>> LTS(percentile=80)
    LTS(percentile=80)
    """

    name = "lts"
    title = "A logit score of logits scaled by how spread out activations are."
    needs = ("features", "head")
    cost = "one forward"
    fails_when = f"{SPARSE_FAILURE}or the largest logit is negative."

    def __init__(self, *, percentile: float = 95, score: str | Detector = "energy") -> None:
        check_percentile(percentile)
        check_score(score)
        self.percentile = percentile
        self.score = score

    def plan(self, network: Network, probe: Tensor) -> Plan:
        """Features, and logits."""
        signed = "counts negative units as zero; this network's features are signed."
        return shaped_plan(self, network, probe, signed=signed, inner_reads=(LOGITS,))

    def measure(self, evidence: Evidence, state: State) -> Tensor:
        """Scores (batch,)."""
        factor = logit_scale(evidence.features, float(self.percentile))
        return measured(self.score, evidence, factor=factor)
