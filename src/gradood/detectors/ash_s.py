"""ASH-S."""

from typing import final

from torch import Tensor

from gradood.detectors._shared.shaping import (
    SIGNED_RATIO,
    SPARSE_FAILURE,
    check_percentile,
    check_score,
    measured,
    shaped_plan,
)
from gradood.detectors.base import Detector, Plan, State
from gradood.evidence import Evidence
from gradood.functional.shaping import sharpened
from gradood.taps import Network

__all__ = ["ASHS"]


@final
class ASHS(Detector):
    """A logit score of the largest activations of each input, scaled up [djurisic2023ash].

    Reads the features and the head. Assumes that small activations are noise, and
    that known inputs have more activation outside the largest units.

    ``score = s(W (h ⊙ m · exp(Σh / Σ(h ⊙ m))) + b), m_d = 1 for the largest units of the row``

    Args:
        percentile: share of units set to zero, 0 to below 100; released: 90 for
            ImageNet ResNet-50 and MobileNet, 95 for CIFAR and ViT.
        score: the logit score s: the name of a detector that reads logits or features alone and
            learns nothing, or an instance of one. A monitor with a name can be saved.

    Cost: the forward pass, a selection of the largest units and one product with the head.

    >>> ASHS(percentile=80)
    ASHS(percentile=80)
    """

    name = "ash-s"
    needs = ("features", "head")
    cost = "one forward"
    fails_when = f"{SPARSE_FAILURE}features are few or signed."

    def __init__(self, *, percentile: float = 90, score: str | Detector = "energy") -> None:
        check_percentile(percentile)
        check_score(score)
        self.percentile = percentile
        self.score = score

    def plan(self, network: Network, probe: Tensor) -> Plan:
        """Features, and what the score reads."""
        return shaped_plan(self, network, probe, signed=SIGNED_RATIO)

    def measure(self, evidence: Evidence, state: State) -> Tensor:
        """Scores (batch,)."""
        features = sharpened(evidence.features, float(self.percentile))
        return measured(self.score, evidence, features=features)
