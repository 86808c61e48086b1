"""SCALE."""

from typing import ClassVar, final

from torch import Tensor

from gradood.detectors.base import Detector, Plan, State, require
from gradood.detectors.shaped import check_score, measured, shaped_plan
from gradood.evidence import Evidence
from gradood.functional.shaping import scaled
from gradood.taps import Network

__all__ = ["SCALE"]


@final
class SCALE(Detector):
    """A logit score of activations scaled by how spread out they are [xu2024scale].

    Reads the features and the head. Assumes that known inputs have more activation
    outside the largest units; prunes nothing, so the predicted class stays.

    ``score = s(W (h · exp(Σh / Σ(h ⊙ m))) + b), m_d = 1 for the largest units of the row``

    Args:
        percentile: share of units left out of the lower sum, 0 to below 100; OpenOOD's is 85.
        score: the logit score s: the name of a detector that reads logits or features alone and
            learns nothing, or an instance of one. A monitor with a name can be saved.

    Cost: the forward pass, a selection of the largest units and one product with the head.

    >>> SCALE(percentile=80)
    SCALE(percentile=80)
    """

    name: ClassVar[str] = "scale"
    title: ClassVar[str] = "A logit score of activations scaled by how spread out they are."
    paper: ClassVar[str] = "xu2024scale"
    needs: ClassVar[tuple[str, ...]] = ("features", "head")
    cost: ClassVar[str] = "one forward"
    fails_when: ClassVar[str] = (
        "Known inputs are the sparser ones (few active units, such as one per class), so that "
        "unknown ones are scaled up more; features are few or signed."
    )

    def __init__(self, *, percentile: float = 85, score: str | Detector = "energy") -> None:
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
        features = scaled(evidence.features, float(self.percentile))
        return measured(self.score, evidence, features=features)
