"""AdaSCALE-L."""

from typing import final

from torch import Tensor

from gradood.detectors._shared.attributions import with_features
from gradood.detectors._shared.scaling import AdaptiveScaling
from gradood.detectors.base import Detector, State
from gradood.evidence import Evidence, Linear
from gradood.functional.gradnorm import linear_logits
from gradood.functional.logits import energy
from gradood.registry import resolved

__all__ = ["AdaScaleL"]


@final
class AdaScaleL(AdaptiveScaling):
    """Energy after scaling the logits by how stable the activations are [regmi2025adascale].

    Reads the features of the input and of a perturbed input; learns how far they shift on the fit
    data. Assumes that the highest activations of unknown inputs shift more under a perturbation
    that hardly matters. The paper scores ID high; negated once here.

    ``score = −logsumexp(r² (W a + b))`` with ``r = Σ a / Σ_{a ≥ P_p(a)} a`` of the positive
    activations, ``p = p_min + (1 − F(Q')) (p_max − p_min)``, F the distribution of Q' in the fit,
    ``Q' = λ Σ_{top k1} |a − a_ε| + Σ_{top k2} relu(a_ε)``, and a_ε the features of
    ``x + ε · sign(∇ₓ max z)``, moved at the least salient values alone.

    Args:
        p_min: percentile of the least stable samples; ``"auto"`` is 60, which the authors keep, or
            p_max if that is less. The paper tunes both for each network (80 to 85 for ResNet-50,
            70 to 85 for DenseNet-101 on CIFAR-10); the released settings are 75 and 85.
        p_max: percentile of the most stable samples; ``"auto"`` takes the one with which scaling
            alone best tells fit features from surrogate outliers (the authors choose it on
            outliers, and take F from validation images).
        k1: percent of the units whose shift counts; at least one unit.
        k2: percent of the units whose perturbed activation counts (5 on most ImageNet networks,
            10 to 100 on CIFAR in the paper).
        balance: λ.
        share: of the input's values that are moved, 0 to 1; at least one.
        epsilon: ε, in the units of the input that the model takes.
        pixels: whether the ``"least"`` or the ``"most"`` salient values are moved.

    Cost: the forward pass with its whole graph, one backward to the input, and one more forward;
    shared with AdaSCALE-A of the same `share`, `epsilon` and `pixels`. Keeps 5,000 numbers.

    >>> AdaScaleL(p_min=80)
    AdaScaleL(p_min=80)
    """

    name = "adascale-l"
    title = "Energy of logits scaled by the stability of the highest activations."
    cost = (
        "a pass of its own: one forward, one backward to the input, one forward (shared with "
        "adascale-a); one fit pass of the same; keeps 5,000 numbers"
    )
    attribution = (
        "shaped: energy, by its own rule, on the features times r²; the reference is taken "
        "times the sample's factor, as its perturbed features are not known; r² times the "
        "bias, less the bias, is beyond the head"
    )

    def scaled(self, features: Tensor, ratio: Tensor, head: Linear) -> Tensor:
        """(batch,) energy of the logits times the square of the ratio."""
        return energy(linear_logits(features, head.weight, head.bias) * ratio[:, None].square())

    def shaped(
        self, evidence: Evidence, state: State, sample: Evidence
    ) -> tuple[Detector, Evidence]:
        """See `attribution`."""
        head, factor = evidence.linear, self.ratio(sample, state)[:, None].square()
        wide = evidence.features.double()
        logits = linear_logits(wide, head.weight, head.bias) * factor
        return resolved("energy"), with_features(evidence, wide * factor, logits)
