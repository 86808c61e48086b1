"""LINe."""

from dataclasses import dataclass
from typing import Literal, final

import torch
from torch import Tensor

from gradood.detectors._shared.fit_data import warn_of_fit
from gradood.detectors._shared.labels import check_labels, fill_absent
from gradood.detectors.base import Learner, Plan, State, require
from gradood.errors import DataError
from gradood.evidence import FEATURES, Evidence, gather
from gradood.functional.gradnorm import linear_logits
from gradood.functional.line import contributions, pruned_logits, pruning_thresholds
from gradood.functional.logits import energy
from gradood.functional.moments import ClassMoments
from gradood.functional.quantiles import Histogram
from gradood.taps import Network

__all__ = ["LINe"]

_AUTO_QUANTILE = 0.96
_PROBED = 8


def _auto_clip(activations: Histogram) -> float:
    clip = activations.quantile(_AUTO_QUANTILE)
    # Zeros share a bin with numbers below the smallest normal one.
    if clip < torch.finfo(torch.float32).tiny:
        raise DataError(
            "line with clip='auto' would clip at the 96th percentile of the fit features, which is "
            f"{min(clip, 0.0):.3g} here and leaves nothing to score; give clip as a number."
        )
    return clip


@dataclass(frozen=True, eq=False, slots=True)
class _Statistics:
    """Means of each class, activations where they decide the clipping, and what a number clips.

    Attributes:
        means: of each class.
        activations: where the clip is taken from them.
        reach: shares of the features above the clip, and above zero, where it is a number.
    """

    means: ClassMoments
    activations: Histogram | None
    reach: ClassMoments | None


@final
class LINe(Learner[_Statistics]):
    """Energy after pruning all but the neurons that matter to the predicted class [ahn2023line].

    Reads the features and the head; learns class means of the features. Assumes that activations
    which contribute little to the predicted class are noise, and that unknown inputs excite them.

    ``score = −logsumexp((W ⊙ M_ĉ)(min(h, δ) ⊙ m_ĉ) + b)`` with ĉ predicted from the clipped
    features, M and m keeping the weights and units above a percentile of ``S_c = h̄_c ⊙ W_c``.

    Args:
        weight_percentile: share of weights removed, 0 to below 100.
        activation_percentile: share of units removed, 0 to below 100.
        clip: δ, absolute; ``"auto"`` takes the 96th percentile of the fit features. The published
            value for CIFAR DenseNet-101 is 1.0 (and percentiles 90, 90 for CIFAR-10, 90, 10 for
            CIFAR-100), for ImageNet ResNet-50 0.8 (and 10, 10).
        contribution: ``"signed"`` as released, or ``"absolute"`` as in the paper's text.

    Cost: the forward pass, one masked (classes, width) product per class predicted in the batch;
    state of one (classes, width) tensor.

    >>> LINe(clip="auto")
    LINe(clip='auto')
    """

    name = "line"
    title = "Energy after pruning by class-wise contribution and clipping."
    needs = ("features", "head", "labels")
    cost = "one forward; one fit pass; state of classes × width"
    fails_when = (
        "The clipping value does not fit the network's activations (it is absolute: use "
        "clip='auto' away from the published networks), the features are few, so that 90 % "
        "pruning leaves none, or they are signed."
    )
    state_shapes = (
        "thresholds: float classes features",
        "clip: float",
    )

    def __init__(
        self,
        *,
        weight_percentile: float = 90,
        activation_percentile: float = 90,
        clip: float | Literal["auto"] = 1.0,
        contribution: Literal["signed", "absolute"] = "signed",
    ) -> None:
        for option, value in (
            ("weight_percentile", weight_percentile),
            ("activation_percentile", activation_percentile),
        ):
            require(0 <= value < 100, option, value, "a number from 0 to below 100")
        number = isinstance(clip, int | float) and clip > 0
        require(clip == "auto" or number, "clip", clip, "a number > 0, or 'auto'")
        kinds = ("signed", "absolute")
        require(contribution in kinds, "contribution", contribution, "'signed' or 'absolute'")
        self.weight_percentile = weight_percentile
        self.activation_percentile = activation_percentile
        self.clip = clip
        self.contribution: Literal["signed", "absolute"] = contribution

    def plan(self, network: Network, probe: Tensor) -> Plan:
        """Features; whether they are signed is looked up on some."""
        features = gather(network, probe[:_PROBED], (FEATURES,)).features
        caveats: tuple[str, ...] = ()
        if bool((features < 0).any()):
            caveats = (
                "line says little on signed features: it prunes and clips what is positive.",
            )
        return Plan((FEATURES,), fit_reads=(FEATURES,), caveats=caveats)

    def accumulate(self, evidence: Evidence) -> _Statistics:
        """Class means of h (of |h| for absolute contributions); a histogram if clip is auto."""
        labels = check_labels(evidence, self.name)
        features = evidence.features
        values = features.abs() if self.contribution == "absolute" else features
        activations = Histogram.of(features) if self.clip == "auto" else None
        reach = None
        if self.clip != "auto":
            shares = [(features > bound).double().mean(1) for bound in (float(self.clip), 0.0)]
            reach = ClassMoments.together(torch.stack(shares, 1))
        means = ClassMoments.of(values, labels, evidence.classes)
        return _Statistics(means, activations, reach)

    def finish(self, seen: _Statistics, network: Network, plan: Plan) -> State:
        """One threshold per class and unit, and the clipping value."""
        means = seen.means
        weight = network.head.weight.to(means.mean.device)
        clip = self.clip if seen.activations is None else _auto_clip(seen.activations)
        if seen.reach is not None:
            self._warn_of_clip(*seen.reach.overall_mean.tolist())
        strength = contributions(fill_absent(means, self.name), weight, self.contribution)
        percentiles = float(self.weight_percentile), float(self.activation_percentile)
        # As wide as `measure` compares: a weight at its threshold must not be rounded across it.
        wide = weight.to(torch.promote_types(weight.dtype, torch.float32))
        thresholds = pruning_thresholds(strength, wide, *percentiles)
        return {"thresholds": thresholds, "clip": means.mean.new_tensor(clip)}

    def _warn_of_clip(self, clipped: float, active: float) -> None:
        """Warn where the clip leaves features as they are, or all but flattens them.

        Args:
            clipped: share of the fit features above it.
            active: share above zero.
        """
        if active > 0 and (clipped == 0 or clipped > active / 2):
            share = clipped / active
            what = f"{share:.0%} of the active fit features" if clipped else "no fit feature"
            warn_of_fit(
                f"line with clip={self.clip:g} clips {what}, so that it says little here; "
                "clip='auto' takes it from the fit data."
            )

    def measure(self, evidence: Evidence, state: State) -> Tensor:
        """Scores (batch,)."""
        head = evidence.linear
        features = evidence.features.clamp(max=float(state["clip"]))
        predicted = linear_logits(features, head.weight, head.bias).argmax(1)
        weight = head.weight.to(features.dtype)
        logits = pruned_logits(features, weight, None, state["thresholds"], predicted).double()
        return energy(logits if head.bias is None else logits + head.bias.double())
