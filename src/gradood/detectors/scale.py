"""SCALE."""

from typing import ClassVar, final

from torch import Tensor

from gradood.detectors._shared.shaping import SIGNED_RATIO, SPARSE_FAILURE, FeatureShaping
from gradood.functional.shaping import scaled

__all__ = ["SCALE"]


@final
class SCALE(FeatureShaping):
    """A logit score of activations scaled by how spread out they are [xu2024scale].

    Reads the features and the head; learns its percentile, unless it is given one. Assumes that
    known inputs have more activation outside the largest units; prunes nothing, so the predicted
    class stays.

    ``score = s(W (h · exp(Σh / Σ(h ⊙ m))) + b), m_d = 1 for the largest units of the row``

    Args:
        percentile: share of units left out of the lower sum, 0 to below 100, which needs no fit;
            ``"auto"`` takes the one that best tells fit features from surrogate outliers.
            Released, and OpenOOD's: 85.
        score: the logit score s: the name of a detector that reads logits or features alone and
            learns nothing, or an instance of one. A monitor with a name can be saved.

    Cost: the forward pass, a selection of the largest units and one product with the head.

    >>> SCALE(percentile=80)
    SCALE(percentile=80)
    """

    name = "scale"
    fails_when = f"{SPARSE_FAILURE}features are few or signed."
    published: ClassVar = {"percentile": 85}
    signed = SIGNED_RATIO

    def shape(self, features: Tensor, percentile: float) -> Tensor:
        """See the class."""
        return scaled(features, percentile)
