"""LTS."""

from typing import ClassVar, final

from torch import Tensor

from gradood.detectors._shared.attributions import with_features
from gradood.detectors._shared.shaping import (
    SPARSE_FAILURE,
    PercentileShaping,
    inner_score,
    measured,
)
from gradood.detectors.base import Detector, State
from gradood.evidence import LOGITS, Evidence
from gradood.functional.gradnorm import linear_logits
from gradood.functional.shaping import logit_scale

__all__ = ["LTS"]


@final
class LTS(PercentileShaping):
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
    fails_when = f"{SPARSE_FAILURE}or the largest logit is negative."
    attribution = (
        "shaped: the inner score, by its own rule, on the features times the factor of the "
        "logits; that factor times the bias, less the bias, is beyond the head"
    )
    published: ClassVar = {"percentile": 95}
    signed = "counts negative units as zero; this network's features are signed."
    inner_reads = (LOGITS,)

    def measure(self, evidence: Evidence, state: State) -> Tensor:
        """Scores (batch,)."""
        factor = logit_scale(evidence.features, self.share_removed(state))
        return measured(self.score, evidence, factor=factor)

    def shaped(
        self, evidence: Evidence, state: State, sample: Evidence
    ) -> tuple[Detector, Evidence]:
        """See `attribution`."""
        head, wide = evidence.linear, evidence.features.double()
        factor = logit_scale(evidence.features, self.share_removed(state))[:, None]
        logits = factor * linear_logits(wide, head.weight, head.bias)
        return inner_score(self.score), with_features(evidence, factor * wide, logits)
