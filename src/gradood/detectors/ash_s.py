"""ASH-S."""

from typing import ClassVar, final

from torch import Tensor

from gradood.detectors.base import Detector, Plan, State, require
from gradood.detectors.shaped import check_score, measured, shaped_plan
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
        percentile: share of units set to zero, 0 to below 100; released settings use 90.
        score: the logit score s: the name of a detector that reads logits or features alone and
            learns nothing, or an instance of one. A monitor with a name can be saved.

    Cost: the forward pass, a selection of the largest units and one product with the head.

    >>> ASHS(percentile=80)
    ASHS(percentile=80)
    """

    name: ClassVar[str] = "ash-s"
    title: ClassVar[str] = "A logit score of the largest activations of each input, scaled up."
    paper: ClassVar[str] = "djurisic2023ash"
    needs: ClassVar[tuple[str, ...]] = ("features", "head")
    cost: ClassVar[str] = "one forward"
    fails_when: ClassVar[str] = (
        "Known inputs are the sparser ones (few active units, such as one per class), so that "
        "unknown ones are scaled up more; features are few or signed."
    )

    def __init__(self, *, percentile: float = 90, score: str | Detector = "energy") -> None:
        require(0 <= percentile < 100, "percentile", percentile, "a number from 0 to below 100")
        check_score(score)
        self.percentile = percentile
        self.score = score

    def plan(self, network: Network, probe: Tensor) -> Plan:
        """Features, and what the score reads."""
        signed = (
            "scales by a ratio of sums of features; this network's are signed, so the ratio may be "
            "negative, and counts as −∞ (features of zero) where the lower sum is not positive."
        )
        return shaped_plan(self, network, probe, signed=signed)

    def measure(self, evidence: Evidence, state: State) -> Tensor:
        """Scores (batch,)."""
        features = sharpened(evidence.features, float(self.percentile))
        return measured(self.score, evidence, features=features)
