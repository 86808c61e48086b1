"""GL-MCM."""

from dataclasses import replace
from math import isfinite
from typing import final

from torch import Tensor

from gradood.detectors._shared.attributions import Terms, cosine_terms
from gradood.detectors._shared.layers import one_logit
from gradood.detectors._shared.zero_shot import local_site
from gradood.detectors.base import Detector, Plan, State, require
from gradood.evidence import FEATURES, MAP, Activation, Evidence
from gradood.functional.logits import max_softmax
from gradood.functional.zero_shot import cosines, local_matching
from gradood.taps import Network

__all__ = ["GLMCM"]


@final
class GLMCM(Detector):
    """Global and local maximum concept matching [miyai2025glmcm].

    Reads the features, the head and the local features of a zero-shot classifier
    (`gradood.zero_shot`) whose image encoder returns these. Adds to MCM the position that matches a
    class best, so that a known object beside others still counts as known. High-is-ID in the paper,
    negated once here.

    ``score = −max_c softmax(cos(h, t) / τ)_c − λ max_{i,c} softmax(cos(h_i, t) / τ)_c`` with h_i
    the local features.

    Args:
        temperature: τ > 0; 1 in the paper and its code.
        weight: λ ≥ 0 of the local part; 1 in the paper and its code.

    Cost: the forward pass; positions · classes · width multiplications per image.

    >>> GLMCM(weight=0.5)
    GLMCM(weight=0.5)
    """

    name = "gl-mcm"
    title = "MCM of the image plus that of its best position, negated."
    needs = ("features", "head of a zero-shot classifier", "local features")
    links = ("softmax",)
    cost = "one forward; a product with the texts at every position"
    fails_when = (
        "The image encoder returns no local features in the space of the texts (refused), or known "
        "objects beside unknown ones should count as unknown."
    )
    attribution = (
        "terms: the path of the cosines with the classes, Σ_c t̂_cd (ĥ_d − r̂_d) ∫ "
        "∂s/∂cos_c, from the reference's; the local features' matching is a part"
    )

    def __init__(self, *, temperature: float = 1.0, weight: float = 1.0) -> None:
        ok = 0 < temperature and isfinite(temperature)
        require(ok, "temperature", temperature, "a number > 0")
        require(0 <= weight and isfinite(weight), "weight", weight, "a number ≥ 0")
        self.temperature = temperature
        self.weight = weight

    def plan(self, network: Network, probe: Tensor) -> Plan:
        """Features and local features."""
        local = Activation(local_site(network, self.name), MAP)
        caveats = one_logit(network, self.name)
        return Plan((FEATURES, local), caveats=caveats)

    def measure(self, evidence: Evidence, state: State) -> Tensor:
        """Scores (batch,)."""
        texts, temperature = evidence.linear.weight, float(self.temperature)
        whole = max_softmax(cosines(evidence.features, texts) / temperature)
        local = local_matching(evidence["maps"], texts, temperature)
        return whole + float(self.weight) * local

    def terms(self, evidence: Evidence, state: State, reference: Evidence) -> Terms:
        """See `attribution`."""

        def score(matching: Tensor, rows: Tensor) -> Tensor:
            return max_softmax(matching / float(self.temperature))

        found = cosine_terms(score, evidence, reference)
        texts, maps = evidence.linear.weight, evidence["maps"]
        local = float(self.weight) * local_matching(maps, texts, float(self.temperature))
        return replace(found, parts={**found.parts, "local features": local}, classes=None)
