"""Maximum logit."""

from typing import final

from torch import Tensor

from gradood.detectors._shared.attributions import Terms, at_class, linear_terms
from gradood.detectors.base import Detector, Plan, State
from gradood.evidence import LOGITS, Evidence
from gradood.functional.logits import max_logit
from gradood.taps import Network

__all__ = ["MaxLogit"]


@final
class MaxLogit(Detector):
    """Maximum logit, negated [hendrycks2022maxlogit].

    Reads the logits. Assumes that features of unknown inputs are shorter or align with no class.

    ``score = −max_c z_c``

    Cost: the forward pass.

    >>> MaxLogit().name
    'max-logit'
    """

    name = "max-logit"
    title = "Negative maximum logit."
    needs = ("logits",)
    cost = "one forward"
    fails_when = (
        "Training fixed the scale of the logits (LogitNorm, cosine heads, strong label smoothing)."
    )
    attribution = (
        "terms: −w_ĉd (h_d − r_d) of the class ĉ that answers; the reference value is its −z_ĉ"
    )
    links = ("softmax", "sigmoid")

    def plan(self, network: Network, probe: Tensor) -> Plan:
        """Logits."""
        return Plan((LOGITS,))

    def measure(self, evidence: Evidence, state: State) -> Tensor:
        """Scores (batch,)."""
        return max_logit(evidence.logits)

    def terms(self, evidence: Evidence, state: State, reference: Evidence) -> Terms:
        """See `attribution`."""
        predicted = evidence.logits.argmax(1)
        minus = evidence.logits.new_full((evidence.size,), -1.0)
        return linear_terms(at_class(minus, predicted, evidence.classes), evidence, reference)
