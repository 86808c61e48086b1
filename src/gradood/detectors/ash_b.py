"""ASH-B."""

from typing import final

from torch import Tensor

from gradood.detectors._shared.shaping import (
    check_percentile,
    check_score,
    measured,
    shaped_plan,
)
from gradood.detectors.base import Detector, Plan, State
from gradood.evidence import Evidence
from gradood.functional.shaping import binarized
from gradood.taps import Network

__all__ = ["ASHB"]


@final
class ASHB(Detector):
    """A logit score of the largest activations of each input, made equal [djurisic2023ash].

    Reads the features and the head. Assumes that which units are largest says more
    than by how much. Of equal units at the cut, such as zeros, those of lower index are kept.

    ``score = s(W (m · Σh / k) + b), m_d = 1 for the k largest units of the row``

    Args:
        percentile: share of units set to zero, 0 to below 100; the released default is 65.
        score: the logit score s: the name of a detector that reads logits or features alone and
            learns nothing, or an instance of one. A monitor with a name can be saved.

    Cost: the forward pass, a selection of the largest units and one product with the head.

    >>> ASHB(percentile=80)
    ASHB(percentile=80)
    """

    name = "ash-b"
    needs = ("features", "head")
    cost = "one forward"
    fails_when = (
        "Fewer units are active than are kept, so that zeros are raised to the mean, or features "
        "are signed, whose sum says little."
    )

    def __init__(self, *, percentile: float = 65, score: str | Detector = "energy") -> None:
        check_percentile(percentile)
        check_score(score)
        self.percentile = percentile
        self.score = score

    def plan(self, network: Network, probe: Tensor) -> Plan:
        """Features, and what the score reads."""
        signed = (
            "spreads the sum of the features over the largest units; this network's are signed, "
            "and their sum may be zero or negative."
        )
        return shaped_plan(self, network, probe, signed=signed)

    def measure(self, evidence: Evidence, state: State) -> Tensor:
        """Scores (batch,)."""
        features = binarized(evidence.features, float(self.percentile))
        return measured(self.score, evidence, features=features)
