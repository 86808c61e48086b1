"""ASH-S."""

from typing import ClassVar, final

from torch import Tensor

from gradood.detectors._shared.shaping import SIGNED_RATIO, SPARSE_FAILURE, FeatureShaping
from gradood.functional.shaping import sharpened

__all__ = ["ASHS"]


@final
class ASHS(FeatureShaping):
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
    fails_when = f"{SPARSE_FAILURE}features are few or signed."
    published: ClassVar = {"percentile": 95}
    signed = SIGNED_RATIO

    def shape(self, features: Tensor, percentile: float) -> Tensor:
        """See the class."""
        return sharpened(features, percentile)
