"""AdaSCALE-L."""

from typing import ClassVar, Literal, final

from torch import Tensor

from gradood.detectors._shared.attributions import with_features
from gradood.detectors._shared.scaling import SHIFT_SHAPES, AdaptiveScaling, Percentile, Shifts
from gradood.detectors.base import Detector, Learner, Plan, State
from gradood.evidence import Evidence
from gradood.functional.gradnorm import linear_logits
from gradood.functional.logits import energy
from gradood.registry import resolved
from gradood.taps import Network

__all__ = ["AdaScaleL"]


@final
class AdaScaleL(Learner[Shifts]):
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
    needs = ("features", "head", "gradient of the input")
    cost = (
        "a pass of its own: one forward, one backward to the input, one forward (shared with "
        "adascale-a); one fit pass of the same; keeps 5,000 numbers"
    )
    fails_when = (
        "Given percentiles do not fit the network (the paper tunes them), the features are so "
        "few that a percentile is a step, the fit data shifts less than other data of its kind, "
        "or unknown inputs have even activations, which are scaled the most, or weaker ones, whose "
        "correction outweighs their shift (near-OOD on CIFAR-10 networks). Rounding decides which "
        "of the least salient values move, so another device or batch size may change a score a "
        "little."
    )
    attribution = (
        "shaped: energy, by its own rule, on the features times r²; the reference is taken "
        "times the sample's factor, as its perturbed features are not known; r² times the "
        "bias, less the bias, is beyond the head"
    )
    labels = False
    published: ClassVar = {"p_min": 75, "p_max": 85}
    state_shapes = SHIFT_SHAPES

    def __init__(
        self,
        *,
        p_min: Percentile = "auto",
        p_max: Percentile = "auto",
        k1: float = 1,
        k2: float = 5,
        balance: float = 10,
        share: float = 0.05,
        epsilon: float = 0.5,
        pixels: Literal["least", "most"] = "least",
    ) -> None:
        self.p_min: Percentile = p_min
        self.p_max: Percentile = p_max
        self.k1 = k1
        self.k2 = k2
        self.balance = balance
        self.share = share
        self.epsilon = epsilon
        self.pixels: Literal["least", "most"] = pixels
        self._scaling()

    def _scaling(self) -> AdaptiveScaling:
        return AdaptiveScaling(**self.options())

    def plan(self, network: Network, probe: Tensor) -> Plan:
        """Features, before and after the perturbation."""
        return self._scaling().plan(network, probe, self.name)

    def accumulate(self, evidence: Evidence) -> Shifts:
        """Q' of some samples."""
        return self._scaling().accumulate(evidence, self.name)

    def finish(self, seen: Shifts, network: Network, plan: Plan) -> State:
        """Q' of the fit, sorted, and the percentiles where they are chosen."""
        head = network.head

        def scaled(features: Tensor, ratio: Tensor) -> Tensor:
            return _scaled(features, ratio, head.weight, head.bias)

        return self._scaling().finish(seen, self.name, scaled)

    def measure(self, evidence: Evidence, state: State) -> Tensor:
        """Scores (batch,)."""
        ratio, head = self._scaling().ratio(evidence, state), evidence.linear
        return _scaled(evidence.features, ratio, head.weight, head.bias)

    def shaped(
        self, evidence: Evidence, state: State, sample: Evidence
    ) -> tuple[Detector, Evidence]:
        """See `attribution`."""
        head, factor = evidence.linear, self._scaling().ratio(sample, state)[:, None].square()
        wide = evidence.features.double()
        logits = linear_logits(wide, head.weight, head.bias) * factor
        return resolved("energy"), with_features(evidence, wide * factor, logits)


def _scaled(features: Tensor, ratio: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """(batch,) energy of the logits times the square of the ratio."""
    return energy(linear_logits(features, weight, bias) * ratio[:, None].square())
