"""CADRef."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal, final

import torch
from torch import Tensor

from gradood.detectors._shared.attributions import Terms, at_class
from gradood.detectors._shared.labels import fill_absent
from gradood.detectors._shared.layers import one_logit
from gradood.detectors.base import Learner, Plan, State, require
from gradood.evidence import FEATURES, LOGITS, Evidence
from gradood.functional.entropies import generalized_entropy
from gradood.functional.logits import energy, max_logit, max_softmax
from gradood.functional.moments import ClassMoments
from gradood.functional.relative import SHORTEST, decoupled_errors
from gradood.taps import Network

__all__ = ["CADRef"]

_LEAST = 1e-6
"""Of a confidence, which is divided by."""


def _inverse_entropy(logits: Tensor) -> Tensor:
    return 1.0 / generalized_entropy(logits, 0.1, max(10, logits.shape[1] // 10)).clamp_min(_LEAST)


_CONFIDENCES: Mapping[str, Callable[[Tensor], Tensor]] = MappingProxyType(
    {
        "energy": lambda z: -energy(z),
        "gen": _inverse_entropy,
        "max-logit": lambda z: -max_logit(z),
        "msp": lambda z: -max_softmax(z),
    }
)


@dataclass(frozen=True, eq=False, slots=True)
class _Statistics:
    """The features by predicted class, and the confidence of all samples."""

    features: ClassMoments
    confidence: ClassMoments


@final
class CADRef(Learner[_Statistics]):
    """Relative distance to the predicted class's mean, less what raises its logit [ling2025cadref].

    Reads the features and the logits; learns what CARef does, and the mean confidence. Assumes that
    a difference that raises the predicted logit is harmless where the network is confident. The
    paper's sign (high is ID) is turned once, here.

    ``score = e⁺ / S(z) + e⁻ / S̄`` with ``e^± = Σ_d max(±sign(w_ĉd) (h − μ_ĉ)_d, 0) / ‖h‖₁``

    S a confidence, S̄ its mean over the fit samples (equation 10 of arXiv 2503.00325). Equations 7
    and 8 as printed take the sign of h and not of h − μ; the text and the released code do as here.
    A confidence below 1e-6 counts as that.

    Args:
        score: the confidence S: ``"energy"`` (log-sum-exp, the released default), ``"max-logit"``,
            ``"msp"``, or ``"gen"``, 1 over the generalized entropy with γ = 0.1 of the
            max(10, C/10) largest probabilities.

    Cost: the forward pass; width operations per image; state of classes · width.

    >>> CADRef(score="gen")
    CADRef(score='gen')
    """

    name = "cadref"
    title = "Relative distance to the predicted class's mean, weighted by its effect on the logit."
    needs = ("features", "logits", "head")
    cost = "one forward; one fit pass; state of classes × width"
    fails_when = (
        "Logits are low or negative, so that the energy is no confidence to divide by (take "
        "score='gen'), or unknown inputs resemble one class (near-OOD)."
    )
    attribution = (
        "terms: |h − μ_ĉ|_d / ‖h‖₁, over S(z) where unit d raises the logit of ĉ and over S̄ "
        "where it lowers it; the reference value is 0, at the class mean"
    )
    labels = False
    state_shapes = ("means: float classes features", "confidence: float")

    def __init__(self, *, score: Literal["energy", "gen", "max-logit", "msp"] = "energy") -> None:
        require(score in _CONFIDENCES, "score", score, "'energy', 'gen', 'max-logit' or 'msp'")
        self.score: Literal["energy", "gen", "max-logit", "msp"] = score

    def plan(self, network: Network, probe: Tensor) -> Plan:
        """Features and logits."""
        reads = FEATURES, LOGITS
        caveats = one_logit(network, self.name) if self.score in ("gen", "msp") else ()
        return Plan(reads, fit_reads=reads, caveats=caveats)

    def accumulate(self, evidence: Evidence) -> _Statistics:
        """Means by predicted class, and the mean confidence."""
        logits = evidence.logits
        means = ClassMoments.of(evidence.features, logits.argmax(1), evidence.classes)
        confidence = _CONFIDENCES[self.score](logits)
        return _Statistics(means, ClassMoments.together(confidence[:, None]))

    def finish(self, seen: _Statistics, network: Network, plan: Plan) -> State:
        """One mean per class, and the mean confidence."""
        means = fill_absent(seen.features, f"{self.name}, by predicted class")
        return {"means": means, "confidence": seen.confidence.mean[0, 0].clone()}

    def measure(self, evidence: Evidence, state: State) -> Tensor:
        """Scores (batch,)."""
        predicted = evidence.logits.argmax(1)
        weights = evidence.linear.weight[predicted]
        raising, lowering = decoupled_errors(evidence.features, state["means"][predicted], weights)
        confidence = _CONFIDENCES[self.score](evidence.logits).clamp_min(_LEAST)
        return raising / confidence + lowering / state["confidence"].clamp_min(_LEAST)

    def terms(self, evidence: Evidence, state: State, reference: Evidence) -> Terms:
        """See `attribution`."""
        predicted = evidence.logits.argmax(1)
        wide = evidence.features.double()
        aligned = (wide - state["means"][predicted]) * evidence.linear.weight.double()[
            predicted
        ].sign()
        aligned = aligned / wide.abs().sum(1, keepdim=True).clamp_min(SHORTEST)
        confidence = _CONFIDENCES[self.score](evidence.logits).clamp_min(_LEAST)[:, None]
        usual = state["confidence"].clamp_min(_LEAST)
        units = torch.where(aligned > 0, aligned / confidence, -aligned / usual)
        total = units.sum(1)
        classes = at_class(total, predicted, evidence.classes)
        return Terms(units, torch.zeros_like(total), classes=classes)
