"""Free energy."""

from math import isfinite
from typing import final

from torch import Tensor

from gradood.detectors.base import Detector, Plan, State, require
from gradood.evidence import LOGITS, Evidence
from gradood.functional.logits import energy
from gradood.taps import Network

__all__ = ["Energy"]


@final
class Energy(Detector):
    """Free energy of the logits [liu2020energy].

    Reads the logits. Assumes that training lowered the energy around its data.

    ``score = −T · logsumexp(z / T)``

    Args:
        temperature: T > 0.

    Cost: the forward pass.

    >>> Energy(temperature=2.0)
    Energy(temperature=2.0)
    """

    name = "energy"
    needs = ("logits",)
    cost = "one forward"
    fails_when = (
        "Training fixed the scale of the logits, or unknown inputs have long features (bright or "
        "high-contrast images on networks without clipping)."
    )
    attribution = (
        "logit path: the score is of the logits, whose straight path from the reference's is "
        "that of the features"
    )

    def __init__(self, *, temperature: float = 1.0) -> None:
        require(
            0 < temperature and isfinite(temperature), "temperature", temperature, "a number > 0"
        )
        self.temperature = temperature

    def plan(self, network: Network, probe: Tensor) -> Plan:
        """Logits."""
        return Plan((LOGITS,))

    def measure(self, evidence: Evidence, state: State) -> Tensor:
        """Scores (batch,)."""
        return energy(evidence.logits, float(self.temperature))
