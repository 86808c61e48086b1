"""NegLabel."""

from collections.abc import Mapping
from math import isfinite
from typing import Any, ClassVar, Literal, final

from torch import Tensor

from gradood.detectors._shared.attributions import Terms, cosine_terms
from gradood.detectors._shared.zero_shot import negative_site
from gradood.detectors.base import Detector, Plan, State, require
from gradood.errors import TapError
from gradood.evidence import FEATURES, MAP, Activation, Evidence
from gradood.functional.zero_shot import cosines, in_groups, negative_share
from gradood.taps import Network

__all__ = ["NegLabel"]

_GROUP = 100


@final
class NegLabel(Detector):
    """Share of the softmax that negative labels leave to the classes [jiang2024neglabel].

    Reads the features and the head of a zero-shot classifier (`gradood.zero_shot`), and the cosines
    with its negative labels. Assumes that unknown images are as near to some of many labels far
    from the classes as to the classes. Labels are mined beforehand:
    `gradood.functional.zero_shot.mined_negatives`. High-is-ID in the paper, negated once here.

    ``score = −mean_g Σ_c e^{cos(h, t_c)/τ} / (Σ_c e^{cos(h, t_c)/τ} + Σ_{j∈g} e^{cos(h, n_j)/τ})``
    over groups g of the negative labels n.

    Args:
        temperature: τ > 0; 0.01 in the paper and its code.
        groups: into how many the negative labels are divided, at random but always alike; what
            is left over is in none. ``"auto"`` is one for every 100 labels. Published: 100 of
            10,000.

    Cost: the forward pass; (classes + negatives) · width multiplications per image.

    >>> NegLabel(groups=1)
    NegLabel(groups=1)
    """

    name = "neg-label"
    title = "Negative share of the softmax that negative labels leave to the classes."
    needs = ("features", "head of a zero-shot classifier", "negative labels")
    links = ("softmax",)
    cost = "one forward; a product with the negative labels"
    fails_when = (
        "The classifier has no negative labels (refused), or these are near to the classes, or far "
        "from what unknown images show."
    )
    attribution = (
        "terms: the path of the cosines with the classes, Σ_c t̂_cd (ĥ_d − r̂_d) ∫ "
        "∂s/∂cos_c, from the reference's; the cosines with the negative labels are the "
        "sample's throughout"
    )
    published: ClassVar[Mapping[str, Any]] = {"groups": 100}

    def __init__(
        self, *, temperature: float = 0.01, groups: int | Literal["auto"] = "auto"
    ) -> None:
        ok = 0 < temperature and isfinite(temperature)
        require(ok, "temperature", temperature, "a number > 0")
        whole = isinstance(groups, int) and groups > 0
        require(groups == "auto" or whole, "groups", groups, "a whole number > 0, or 'auto'")
        self.temperature = temperature
        self.groups: int | Literal["auto"] = groups

    def _groups(self, negatives: int) -> int:
        return max(1, negatives // _GROUP) if self.groups == "auto" else self.groups

    def plan(self, network: Network, probe: Tensor) -> Plan:
        """Features and cosines with the negative labels."""
        site, negatives = negative_site(network, self.name)
        if self._groups(negatives) > negatives:
            raise TapError(
                f"{self.name} divides the negative labels into {self.groups} groups, and the layer "
                f"{site} has {negatives}; give more negatives, or use groups='auto'."
            )
        return Plan((FEATURES, Activation(site, MAP)))

    def measure(self, evidence: Evidence, state: State) -> Tensor:
        """Scores (batch,)."""
        negative = evidence["maps"].double()
        groups = in_groups(negative.shape[1], self._groups(negative.shape[1]))
        positive = cosines(evidence.features, evidence.linear.weight)
        return negative_share(positive, negative, groups, float(self.temperature))

    def terms(self, evidence: Evidence, state: State, reference: Evidence) -> Terms:
        """See `attribution`."""
        negative = evidence["maps"].double()
        groups = in_groups(negative.shape[1], self._groups(negative.shape[1]))

        def score(positive: Tensor, rows: Tensor) -> Tensor:
            return negative_share(positive, negative[rows], groups, float(self.temperature))

        return cosine_terms(score, evidence, reference)
