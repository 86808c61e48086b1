"""ASH-S."""

from typing import ClassVar, final

from torch import Tensor

from gradood.detectors._shared.attributions import with_features
from gradood.detectors._shared.automatic import fit_rows
from gradood.detectors._shared.shaping import (
    SIGNED_RATIO,
    SPARSE_FAILURE,
    Percentile,
    check_percentile,
    check_score,
    chosen_share,
    inner_score,
    measured,
    shaped_plan,
    share_reads,
    share_removed,
)
from gradood.detectors.base import Detector, Learner, Plan, State
from gradood.evidence import Evidence
from gradood.functional.samples import Selection
from gradood.functional.shaping import sharpened
from gradood.taps import Network

__all__ = ["ASHS"]


@final
class ASHS(Learner[Selection]):
    """A logit score of the largest activations of each input, scaled up [djurisic2023ash].

    Reads the features and the head; learns its percentile, unless it is given one. Assumes that
    small activations are noise, and that known inputs have more activation outside the largest
    units.

    ``score = s(W (h ⊙ m · exp(Σh / Σ(h ⊙ m))) + b), m_d = 1 for the largest units of the row``

    Args:
        percentile: share of units set to zero, 0 to below 100, which needs no fit; ``"auto"``
            takes the one that best tells fit features from surrogate outliers. Released: 95 for
            CIFAR-10 and CIFAR-100, 90 for ResNet-50 and MobileNet-V2 on ImageNet.
        score: the logit score s: the name of a detector that reads logits or features alone and
            learns nothing, or an instance of one. A monitor with a name can be saved.

    Cost: the forward pass, a selection of the largest units and one product with the head.

    >>> ASHS(percentile=80)
    ASHS(percentile=80)
    """

    name = "ash-s"
    needs = ("features", "head")
    cost = "one forward; one fit pass, unless given a percentile; state of one number"
    fails_when = f"{SPARSE_FAILURE}features are few or signed."
    attribution = (
        "shaped: the inner score, by its own rule, on the shaped features; the reference is "
        "shaped in the same way"
    )
    rescores = True

    labels = False
    automatic = "percentile"
    published: ClassVar = {"percentile": 95}
    state_shapes = ("percentile: float",)

    def __init__(
        self, *, percentile: Percentile = "auto", score: str | Detector = "energy"
    ) -> None:
        check_percentile(percentile)
        check_score(score)
        self.percentile: Percentile = percentile
        self.score = score

    def plan(self, network: Network, probe: Tensor) -> Plan:
        """Features, and what the score reads."""
        return shaped_plan(
            self, network, probe, fit_reads=share_reads(self.percentile), signed=SIGNED_RATIO
        )

    def accumulate(self, evidence: Evidence) -> Selection:
        """Features of some samples."""
        return fit_rows(evidence)

    def finish(self, kept: Selection, network: Network, plan: Plan) -> State:
        """The percentile that best tells those features from surrogates."""
        return chosen_share(self, kept, network, plan)

    def measure(self, evidence: Evidence, state: State) -> Tensor:
        """Scores (batch,)."""
        features = sharpened(evidence.features, share_removed(self, state))
        return measured(self.score, evidence, features=features)

    def shaped(
        self, evidence: Evidence, state: State, sample: Evidence
    ) -> tuple[Detector, Evidence]:
        """See `attribution`."""
        features = sharpened(evidence.features, share_removed(self, state))
        return inner_score(self.score), with_features(evidence, features)
