"""LINe."""

from dataclasses import dataclass
from typing import ClassVar, Literal, final

import torch
from torch import Tensor

from gradood.detectors._shared.attributions import Terms, contribution_terms
from gradood.detectors._shared.automatic import CLIPS, ROW_READS, chosen, fit_rows, fitted_rows
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
from gradood.functional.samples import Selection
from gradood.taps import Network

__all__ = ["LINe"]

_PROBED = 8


def _clips(activations: Histogram) -> list[float]:
    """The clips that ``"auto"`` chooses among, the mildest first."""
    clips = [activations.quantile(percentile / 100) for percentile in CLIPS]
    # Zeros share a bin with numbers below the smallest normal one.
    usable = [clip for clip in clips if clip >= torch.finfo(torch.float32).tiny]
    if not usable:
        raise DataError(
            "line with clip='auto' would clip at the largest of the fit features, which is "
            f"{min(clips[0], 0.0):.3g} here and leaves nothing to score; give clip as a number."
        )
    return usable


@dataclass(frozen=True, eq=False, slots=True)
class _Statistics:
    """Means of each class, activations where they decide the clipping, and what a number clips.

    Attributes:
        means: of each class.
        activations: where the clip is chosen.
        rows: features of some samples, likewise.
        reach: shares of the features above the clip, and above zero, where it is a number.
    """

    means: ClassMoments
    activations: Histogram | None
    rows: Selection | None
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
        clip: δ, absolute; ``"auto"`` takes the percentile of the fit features, from 90 to 100, that
            best tells them from surrogate outliers. Published: on DenseNet-101 1.0, with
            percentiles 90 and 90 for CIFAR-10, 90 and 10 for CIFAR-100; on ResNet-50 for ImageNet
            0.8, with 10 and 10.
        contribution: ``"signed"`` as released, or ``"absolute"`` as in the paper's text.

    Cost: the forward pass, one masked (classes, width) product per class predicted in the batch;
    state of one (classes, width) tensor.

    >>> LINe(clip=1.0)
    LINe(clip=1.0)
    """

    name = "line"
    title = "Energy after pruning by class-wise contribution and clipping."
    needs = ("features", "head", "labels")
    cost = "one forward; one fit pass; state of classes × width"
    fails_when = (
        "A given clip does not fit the network's activations (it is absolute), the features are "
        "few, so that 90 % pruning leaves none, or they are signed."
    )
    attribution = (
        "terms: by the contributions that the predicted class's masks leave, the path of the "
        "logits from the reference's, as of itp"
    )
    published: ClassVar = {"activation_percentile": 90, "clip": 1.0}
    state_shapes = (
        "thresholds: float classes features",
        "clip: float",
    )

    def __init__(
        self,
        *,
        weight_percentile: float = 90,
        activation_percentile: float = 10,
        clip: float | Literal["auto"] = "auto",
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
        self.clip: float | Literal["auto"] = clip
        self.contribution: Literal["signed", "absolute"] = contribution

    def plan(self, network: Network, probe: Tensor) -> Plan:
        """Features; whether they are signed is looked up on some."""
        features = gather(network, probe[:_PROBED], (FEATURES,)).features
        caveats: tuple[str, ...] = ()
        if bool((features < 0).any()):
            caveats = (
                "line says little on signed features: it prunes and clips what is positive.",
            )
        reads = ROW_READS if self.clip == "auto" else (FEATURES,)
        return Plan((FEATURES,), fit_reads=reads, caveats=caveats)

    def accumulate(self, evidence: Evidence) -> _Statistics:
        """Class means of h (of |h| for absolute contributions); more if the clip is chosen."""
        labels = check_labels(evidence, self.name)
        features = evidence.features
        values = features.abs() if self.contribution == "absolute" else features
        activations = rows = reach = None
        if self.clip == "auto":
            activations, rows = Histogram.of(features), fit_rows(evidence)
        else:
            shares = [(features > bound).double().mean(1) for bound in (float(self.clip), 0.0)]
            reach = ClassMoments.together(torch.stack(shares, 1))
        means = ClassMoments.of(values, labels, evidence.classes)
        return _Statistics(means, activations, rows, reach)

    def finish(self, seen: _Statistics, network: Network, plan: Plan) -> State:
        """One threshold per class and unit, and the clipping value."""
        means = seen.means
        weight = network.head.weight.to(means.mean.device)
        if seen.reach is not None:
            self._warn_of_clip(*seen.reach.overall_mean.tolist())
        strength = contributions(fill_absent(means, self.name), weight, self.contribution)
        percentiles = float(self.weight_percentile), float(self.activation_percentile)
        # As wide as `measure` compares: a weight at its threshold must not be rounded across it.
        wide = weight.to(torch.promote_types(weight.dtype, torch.float32))
        thresholds = pruning_thresholds(strength, wide, *percentiles)
        clips = _clips(seen.activations) if seen.activations else [self.clip]
        states = {
            clip: {"thresholds": thresholds, "clip": means.mean.new_tensor(clip)} for clip in clips
        }
        if seen.rows is None:
            return states[self.clip]
        rows = fitted_rows(seen.rows, self.name)
        return states[chosen(self, rows, network, plan, states)]

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
        return energy(_logits(evidence, state))

    def terms(self, evidence: Evidence, state: State, reference: Evidence) -> Terms:
        """See `attribution`."""
        weight, clip = evidence.linear.weight, float(state["clip"])
        predicted = [
            linear_logits(some.features.clamp(max=clip), weight, some.linear.bias).argmax(1)
            for some in (evidence, reference)
        ]

        def made(some: Evidence, row: int) -> Tensor:
            thresholds = state["thresholds"][predicted[some is reference][row]]
            kept = torch.where(weight > thresholds, weight, 0.0).double()
            return kept * some.features[row].double().clamp(max=clip)

        return contribution_terms(energy, made, evidence, reference, _logits(evidence, state))


def _logits(evidence: Evidence, state: State) -> Tensor:
    """(batch, classes) of what the masks of each sample's predicted class leave."""
    head = evidence.linear
    features = evidence.features.clamp(max=float(state["clip"]))
    predicted = linear_logits(features, head.weight, head.bias).argmax(1)
    weight = head.weight.to(features.dtype)
    logits = pruned_logits(features, weight, None, state["thresholds"], predicted).double()
    return logits if head.bias is None else logits + head.bias.double()
