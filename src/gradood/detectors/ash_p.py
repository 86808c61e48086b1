"""ASH-P."""

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
from gradood.functional.shaping import pruned
from gradood.taps import Network

__all__ = ["ASHP"]


@final
class ASHP(Detector):
    """A logit score of the largest activations of each input alone [djurisic2023ash].

    Reads the features and the head. Assumes that small activations are noise. Of equal
    units at the cut, those of lower index are kept.

    ``score = s(W (h ⊙ m) + b), m_d = 1 for the largest units of the row``

    Args:
        percentile: share of units set to zero, 0 to below 100; the released default is 65.
        score: the logit score s: the name of a detector that reads logits or features alone and
            learns nothing, or an instance of one. A monitor with a name can be saved.

    Cost: the forward pass, a selection of the largest units and one product with the head.

    >>> ASHP(percentile=80)
    ASHP(percentile=80)
    """

    name = "ash-p"
    needs = ("features", "head")
    cost = "one forward"
    fails_when = (
        "The small activations carry the classes (few or dense features), or features are signed, "
        "where strong negative ones are removed with the rest."
    )

    def __init__(self, *, percentile: float = 65, score: str | Detector = "energy") -> None:
        check_percentile(percentile)
        check_score(score)
        self.percentile = percentile
        self.score = score

    def plan(self, network: Network, probe: Tensor) -> Plan:
        """Features, and what the score reads."""
        signed = (
            "removes the smallest units; this network's features are signed, and those are the "
            "negative ones, however strong."
        )
        return shaped_plan(self, network, probe, signed=signed)

    def measure(self, evidence: Evidence, state: State) -> Tensor:
        """Scores (batch,)."""
        features = pruned(evidence.features, float(self.percentile))
        return measured(self.score, evidence, features=features)
