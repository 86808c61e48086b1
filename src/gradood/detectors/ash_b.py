"""ASH-B."""

from typing import ClassVar, final

from torch import Tensor

from gradood.detectors._shared.attributions import with_features
from gradood.detectors._shared.automatic import fit_rows
from gradood.detectors._shared.shaping import (
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
from gradood.functional.shaping import binarized
from gradood.taps import Network

__all__ = ["ASHB"]


@final
class ASHB(Learner[Selection]):
    """A logit score of the largest activations of each input, made equal [djurisic2023ash].

    Reads the features and the head; learns its percentile, unless it is given one. Assumes that
    which units are largest says more than by how much. Of equal units at the cut, such as zeros,
    those of lower index are kept.

    ``score = s(W (m · Σh / k) + b), m_d = 1 for the k largest units of the row``

    Args:
        percentile: share of units set to zero, 0 to below 100, which needs no fit; ``"auto"``
            takes the one that best tells fit features from surrogate outliers. Released: 65 for
            ImageNet; OpenOOD has 90.
        score: the logit score s: the name of a detector that reads logits or features alone and
            learns nothing, or an instance of one. A monitor with a name can be saved.

    Cost: the forward pass, a selection of the largest units and one product with the head.

    >>> ASHB(percentile=80)
    ASHB(percentile=80)
    """

    name = "ash-b"
    needs = ("features", "head")
    cost = "one forward; one fit pass, unless given a percentile; state of one number"
    fails_when = (
        "Fewer units are active than are kept, so that zeros are raised to the mean, or features "
        "are signed, whose sum says little."
    )
    attribution = (
        "shaped: the inner score, by its own rule, on the shaped features; the reference is "
        "shaped in the same way"
    )
    rescores = True

    labels = False
    automatic = "percentile"
    published: ClassVar = {"percentile": 65}
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
        signed = (
            "spreads the sum of the features over the largest units; this network's are signed, "
            "and their sum may be zero or negative."
        )
        return shaped_plan(
            self, network, probe, fit_reads=share_reads(self.percentile), signed=signed
        )

    def accumulate(self, evidence: Evidence) -> Selection:
        """Features of some samples."""
        return fit_rows(evidence)

    def finish(self, kept: Selection, network: Network, plan: Plan) -> State:
        """The percentile that best tells those features from surrogates."""
        return chosen_share(self, kept, network, plan)

    def measure(self, evidence: Evidence, state: State) -> Tensor:
        """Scores (batch,)."""
        features = binarized(evidence.features, share_removed(self, state))
        return measured(self.score, evidence, features=features)

    def shaped(
        self, evidence: Evidence, state: State, sample: Evidence
    ) -> tuple[Detector, Evidence]:
        """See `attribution`."""
        features = binarized(evidence.features, share_removed(self, state))
        return inner_score(self.score), with_features(evidence, features)
