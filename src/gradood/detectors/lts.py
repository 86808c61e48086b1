"""LTS."""

from typing import ClassVar, final

from torch import Tensor

from gradood.detectors._shared.attributions import with_features
from gradood.detectors._shared.automatic import fit_rows
from gradood.detectors._shared.shaping import (
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
from gradood.evidence import LOGITS, Evidence
from gradood.functional.gradnorm import linear_logits
from gradood.functional.samples import Selection
from gradood.functional.shaping import logit_scale
from gradood.taps import Network

__all__ = ["LTS"]


@final
class LTS(Learner[Selection]):
    """A logit score of logits scaled by how spread out the activations are [djurisic2024lts].

    Reads the features and the head; learns its percentile, unless it is given one. Assumes that
    known inputs have more activation outside the largest units. Negative units count as zero, as
    released.

    ``score = s((Σh⁺ / Σ(h⁺ ⊙ m))² · (W h + b))``, m_d = 1 for the largest units of the row

    Args:
        percentile: share of units left out of the lower sum, 0 to below 100, which needs no fit;
            ``"auto"`` takes the one that best tells fit features from surrogate outliers.
            Released: 95, the largest 5 %.
        score: the logit score s: the name of a detector that reads logits alone and learns
            nothing, or an instance of one. A monitor with a name can be saved.

    Cost: the forward pass, a selection of the largest units and one product with the head.

    >>> LTS(percentile=80)
    LTS(percentile=80)
    """

    name = "lts"
    title = "A logit score of logits scaled by how spread out activations are."
    needs = ("features", "head")
    cost = "one forward; one fit pass, unless given a percentile; state of one number"
    fails_when = f"{SPARSE_FAILURE}or the largest logit is negative."
    attribution = (
        "shaped: the inner score, by its own rule, on the features times the factor of the "
        "logits; that factor times the bias, less the bias, is beyond the head"
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
        """Features, and logits."""
        signed = "counts negative units as zero; this network's features are signed."
        return shaped_plan(
            self,
            network,
            probe,
            fit_reads=share_reads(self.percentile),
            signed=signed,
            inner_reads=(LOGITS,),
        )

    def accumulate(self, evidence: Evidence) -> Selection:
        """Features of some samples."""
        return fit_rows(evidence)

    def finish(self, kept: Selection, network: Network, plan: Plan) -> State:
        """The percentile that best tells those features from surrogates."""
        return chosen_share(self, kept, network, plan)

    def measure(self, evidence: Evidence, state: State) -> Tensor:
        """Scores (batch,)."""
        factor = logit_scale(evidence.features, share_removed(self, state))
        return measured(self.score, evidence, factor=factor)

    def shaped(
        self, evidence: Evidence, state: State, sample: Evidence
    ) -> tuple[Detector, Evidence]:
        """See `attribution`."""
        head, wide = evidence.linear, evidence.features.double()
        factor = logit_scale(evidence.features, share_removed(self, state))[:, None]
        logits = factor * linear_logits(wide, head.weight, head.bias)
        return inner_score(self.score), with_features(evidence, factor * wide, logits)
