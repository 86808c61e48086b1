"""Activation shaping around any logit score, which is measured on what was shaped."""

from abc import abstractmethod
from typing import ClassVar, Literal, Protocol

import torch
from torch import Tensor

from gradood.detectors._shared.attributions import with_features
from gradood.detectors._shared.automatic import ROW_READS, SHARES, chosen, fit_rows, fitted_rows
from gradood.detectors.base import Detector, Learner, Plan, State, require
from gradood.errors import ConfigError
from gradood.evidence import FEATURES, LOGITS, Evidence, Linear, Read, Reads, gather
from gradood.functional.gradnorm import linear_logits
from gradood.functional.samples import Selection
from gradood.registry import resolved
from gradood.taps import Network

__all__ = [
    "SIGNED_RATIO",
    "SPARSE_FAILURE",
    "FeatureShaping",
    "Percentile",
    "PercentileShaping",
    "check_percentile",
    "check_score",
    "inner_score",
    "measured",
    "shaped_plan",
]

SIGNED_RATIO = (
    "scales by a ratio of sums of features; this network's are signed, so the ratio may be "
    "negative, and counts as −∞ (features of zero) where the lower sum is not positive."
)
"""What scaling by the share of the largest units means on signed features."""
SPARSE_FAILURE = (
    "Known inputs are the sparser ones (few active units, such as one per class), so that "
    "unknown ones are scaled up more; "
)
"""When that scaling fails, and what follows for each method."""
Percentile = float | Literal["auto"]
"""A percentile, or its choice in a fit."""
_INNER = {"ash-b": 65, "ash-p": 65, "ash-s": 90, "lts": 95, "scale": 85}
"""Percentiles of these methods where another has them as its score by name: there is no fit to
choose one in, and files of 0.1 hold such names."""
_PROBED = 8


class _Shaping(Protocol):
    @property
    def name(self) -> str: ...

    score: str | Detector


def check_percentile(percentile: Percentile) -> None:
    """Check the option `percentile` of a shaping method that leaves some units.

    Raises:
        ConfigError: it leaves none.
    """
    number = isinstance(percentile, int | float) and 0 <= percentile < 100
    expected = "a number from 0 to below 100, or 'auto'"
    require(percentile == "auto" or number, "percentile", percentile, expected)


def check_score(score: str | Detector) -> None:
    """Check the option `score` of a shaping method.

    Raises:
        ConfigError: it names no detector, or one that must be fitted: that would have to learn
            from shaped features, which its fit does not see.
    """
    if inner_score(score).must_fit:
        raise ConfigError(
            f"score={score!r} must be fitted; expected a detector that learns nothing and reads "
            "logits or features alone, such as 'energy'."
        )


def shaped_plan(
    detector: "_Shaping | PercentileShaping",
    network: Network,
    probe: Tensor,
    *,
    signed: str | None,
    fit_reads: tuple[Read, ...] = (),
    inner_reads: tuple[Read, ...] = (LOGITS, FEATURES),
) -> Plan:
    """Features, then what the inner score reads: that is what `measured` replaces.

    Args:
        detector: the shaping method.
        network: the observed model.
        probe: inputs; whether features are signed is looked up on eight of them.
        signed: what the method means on signed features, after its name; None if the same.
        fit_reads: for `accumulate`.
        inner_reads: what can be replaced.

    Raises:
        ConfigError: the inner score reads something else.

    Cost:
        One forward of eight inputs.
    """
    inner = inner_score(detector.score)
    plan = inner.plan(network, probe)
    if not set(plan.reads) <= set(inner_reads):
        allowed = " or ".join(str(getattr(read, "name", read)) for read in inner_reads)
        raise ConfigError(
            f"{detector.name}: score={detector.score!r} reads other things than {detector.name} "
            f"changes; expected a score of {allowed} alone, such as 'energy'."
        )
    caveats = plan.caveats
    if signed is not None:
        features = gather(network, probe[:_PROBED], (FEATURES,)).features
        if bool((features < 0).any()):
            caveats = (f"{detector.name} {signed}", *caveats)
    return Plan(Reads((FEATURES,)) + plan.reads, fit_reads, caveats, plan.notes)


def measured(
    score: str | Detector,
    evidence: Evidence,
    *,
    features: Tensor | None = None,
    head: Linear | None = None,
    factor: Tensor | None = None,
) -> Tensor:
    """The inner score on shaped evidence.

    Args:
        score: as checked.
        evidence: of a plan made by `shaped_plan`.
        features: (batch, width) in place of those read.
        head: in place of the model's.
        factor: (batch,) by which the logits are multiplied.

    Returns:
        (batch,) in float64.
    """
    features = evidence.features if features is None else features
    head = evidence.linear if head is None else head
    values: dict[Read, Tensor] = {FEATURES: features}
    if LOGITS in evidence:
        logits = linear_logits(features, head.weight, head.bias)
        values[LOGITS] = logits if factor is None else factor[:, None] * logits
    shaped = Evidence(evidence.size, evidence.classes, head, None, evidence.reads, values)
    return inner_score(score).measure(shaped, {})


def inner_score(score: str | Detector) -> Detector:
    """The inner score; one that would choose its percentile in a fit has a number by name."""
    found = resolved(score)
    if isinstance(score, str) and score in _INNER:
        return type(found)(percentile=_INNER[score])  # type: ignore[call-arg]
    return found


class PercentileShaping(Learner[Selection]):
    """A logit score after a shape that hangs on a percentile of the units of each input.

    Class attributes:
        signed: what the shape means on signed features, after the method's name.
        inner_reads: what of the inner score's readings it changes.
    """

    needs = ("features", "head")
    cost = "one forward; one fit pass, unless given a percentile; state of one number"
    rescores = True
    labels = False
    automatic = "percentile"
    state_shapes = ("percentile: float",)
    signed: ClassVar[str]
    inner_reads: ClassVar[tuple[Read, ...]] = (LOGITS, FEATURES)

    def __init__(
        self, *, percentile: Percentile = "auto", score: str | Detector = "energy"
    ) -> None:
        check_percentile(percentile)
        check_score(score)
        self.percentile: Percentile = percentile
        self.score = score

    def plan(self, network: Network, probe: Tensor) -> Plan:
        """Features, and what the score reads."""
        return shaped_plan(
            self,
            network,
            probe,
            signed=self.signed,
            fit_reads=ROW_READS if self.percentile == "auto" else (),
            inner_reads=self.inner_reads,
        )

    def accumulate(self, evidence: Evidence) -> Selection:
        """Features of some samples."""
        return fit_rows(evidence)

    def finish(self, kept: Selection, network: Network, plan: Plan) -> State:
        """The percentile that best tells those features from surrogates."""
        rows = fitted_rows(kept, self.name)
        states = {p: {"percentile": rows.new_tensor(p, dtype=torch.float64)} for p in SHARES}
        return states[chosen(self, rows, network, plan, states)]

    def share_removed(self, state: State) -> float:
        """The percentile that was given, or chosen in a fit."""
        given = self.percentile
        return float(state["percentile"] if given == "auto" else given)


class FeatureShaping(PercentileShaping):
    """A logit score of features that are shaped by the largest units of each input."""

    attribution = (
        "shaped: the inner score, by its own rule, on the shaped features; the reference is "
        "shaped in the same way"
    )

    @abstractmethod
    def shape(self, features: Tensor, percentile: float) -> Tensor:
        """(batch, width) features in place of those of that shape."""

    def measure(self, evidence: Evidence, state: State) -> Tensor:
        """Scores (batch,)."""
        features = self.shape(evidence.features, self.share_removed(state))
        return measured(self.score, evidence, features=features)

    def shaped(
        self, evidence: Evidence, state: State, sample: Evidence
    ) -> tuple[Detector, Evidence]:
        """See `attribution`."""
        features = self.shape(evidence.features, self.share_removed(state))
        return inner_score(self.score), with_features(evidence, features)
