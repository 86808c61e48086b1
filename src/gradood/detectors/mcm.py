"""MCM."""

from math import isfinite
from typing import final

from torch import Tensor

from gradood.detectors._shared.attributions import Terms, cosine_terms
from gradood.detectors._shared.layers import one_logit
from gradood.detectors._shared.zero_shot import zero_shot_name
from gradood.detectors.base import Detector, Plan, State, require
from gradood.evidence import FEATURES, Evidence
from gradood.functional.logits import max_softmax
from gradood.functional.zero_shot import cosines
from gradood.taps import Network

__all__ = ["MCM"]


@final
class MCM(Detector):
    """Maximum concept matching: softmax of the cosines with the class texts [ming2022mcm].

    Reads the features and the head of a zero-shot classifier (`gradood.zero_shot`): the normalized
    embedding of the image and the text embeddings. Assumes that an image of no class is about as
    near to the text of each. The scale of the logits is not in it. High-is-ID in the paper, negated
    once here.

    ``score = −max_c softmax(cos(h, t) / τ)_c``

    Args:
        temperature: τ > 0; 1 in the paper and its code.

    Cost: the forward pass.

    >>> MCM().name
    'mcm'
    """

    name = "mcm"
    title = "Negative maximum softmax of the cosines with the class texts."
    needs = ("features", "head of a zero-shot classifier")
    links = ("softmax",)
    cost = "one forward"
    fails_when = (
        "The model is no zero-shot classifier (refused), the texts do not say what the classes "
        "look like, or an unknown object is close to one of them in meaning."
    )
    attribution = (
        "terms: the path of the cosines with the classes, Σ_c t̂_cd (ĥ_d − r̂_d) ∫ "
        "∂s/∂cos_c, from the reference's"
    )

    def __init__(self, *, temperature: float = 1.0) -> None:
        ok = 0 < temperature and isfinite(temperature)
        require(ok, "temperature", temperature, "a number > 0")
        self.temperature = temperature

    def plan(self, network: Network, probe: Tensor) -> Plan:
        """Features."""
        zero_shot_name(network, self.name)
        return Plan((FEATURES,), caveats=one_logit(network, self.name))

    def measure(self, evidence: Evidence, state: State) -> Tensor:
        """Scores (batch,)."""
        matching = cosines(evidence.features, evidence.linear.weight)
        return max_softmax(matching / float(self.temperature))

    def terms(self, evidence: Evidence, state: State, reference: Evidence) -> Terms:
        """See `attribution`."""

        def score(matching: Tensor, rows: Tensor) -> Tensor:
            return max_softmax(matching / float(self.temperature))

        return cosine_terms(score, evidence, reference)
