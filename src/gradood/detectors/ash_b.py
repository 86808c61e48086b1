"""ASH-B."""

from typing import ClassVar, final

from torch import Tensor

from gradood.detectors._shared.shaping import FeatureShaping
from gradood.functional.shaping import binarized

__all__ = ["ASHB"]


@final
class ASHB(FeatureShaping):
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
    fails_when = (
        "Fewer units are active than are kept, so that zeros are raised to the mean, or features "
        "are signed, whose sum says little."
    )
    published: ClassVar = {"percentile": 65}
    signed = (
        "spreads the sum of the features over the largest units; this network's are signed, "
        "and their sum may be zero or negative."
    )

    def shape(self, features: Tensor, percentile: float) -> Tensor:
        """See the class."""
        return binarized(features, percentile)
