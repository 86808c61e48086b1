"""ASH-P."""

from typing import ClassVar, final

from torch import Tensor

from gradood.detectors._shared.shaping import FeatureShaping
from gradood.functional.shaping import pruned

__all__ = ["ASHP"]


@final
class ASHP(FeatureShaping):
    """A logit score of the largest activations of each input alone [djurisic2023ash].

    Reads the features and the head; learns its percentile, unless it is given one. Assumes that
    small activations are noise. Of equal units at the cut, those of lower index are kept.

    ``score = s(W (h ⊙ m) + b), m_d = 1 for the largest units of the row``

    Args:
        percentile: share of units set to zero, 0 to below 100, which needs no fit; ``"auto"``
            takes the one that best tells fit features from surrogate outliers. The released
            default is 65.
        score: the logit score s: the name of a detector that reads logits or features alone and
            learns nothing, or an instance of one. A monitor with a name can be saved.

    Cost: the forward pass, a selection of the largest units and one product with the head.

    >>> ASHP(percentile=80)
    ASHP(percentile=80)
    """

    name = "ash-p"
    fails_when = (
        "The small activations carry the classes (few or dense features), or features are signed, "
        "where strong negative ones are removed with the rest."
    )
    published: ClassVar = {"percentile": 65}
    signed = (
        "removes the smallest units; this network's features are signed, and those are the "
        "negative ones, however strong."
    )

    def shape(self, features: Tensor, percentile: float) -> Tensor:
        """See the class."""
        return pruned(features, percentile)
