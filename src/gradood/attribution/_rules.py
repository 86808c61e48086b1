"""Rules by which scores are attributed to units, by name."""

from collections.abc import Callable

from torch import Tensor

from gradood.detectors._shared.attributions import Terms, feature_terms, head_terms
from gradood.detectors.base import Detector, State
from gradood.errors import TapError
from gradood.evidence import FEATURES, LOGITS, Evidence, Read, Reads
from gradood.functional.gradnorm import linear_logits

__all__ = ["RULES", "rule_of"]

Rule = Callable[[Detector, Evidence, State, Evidence], Terms]


def rule_of(detector: Detector | type[Detector]) -> tuple[str, str]:
    """Name of the rule that a detector declares, and what it means there.

    Raises:
        TapError: it declares none, or why there is none.
    """
    name, _, meaning = detector.attribution.partition(":")
    if name == "none":
        raise TapError(f"{detector.name} is not explained by units: {meaning.strip()}.")
    if name not in RULES or not meaning.strip():
        raise TapError(
            f"{detector.name} does not say how its scores are attributed to units; give the class "
            f"attribution = 'rule: what it means', with a rule of {', '.join(RULES)} or none."
        )
    return name, meaning.strip()


def _logit_path(detector: Detector, evidence: Evidence, state: State, start: Evidence) -> Terms:
    def score(logits: Tensor) -> Tensor:
        return _measured(detector, evidence, state, {LOGITS: logits})

    return head_terms(score, evidence, start)


def _feature_path(detector: Detector, evidence: Evidence, state: State, start: Evidence) -> Terms:
    """Logits follow the features, and keep what the model's own hold beyond ``W h + b``."""
    head = evidence.linear
    own = linear_logits(evidence.features, head.weight, head.bias)
    beyond = evidence.logits - own

    def score(points: Tensor, rows: Tensor) -> Tensor:
        logits = linear_logits(points, head.weight, head.bias) + beyond[rows]
        return _measured(detector, evidence, state, {FEATURES: points, LOGITS: logits})

    return feature_terms(score, start.features, evidence.features)


def _terms(detector: Detector, evidence: Evidence, state: State, start: Evidence) -> Terms:
    return detector.terms(evidence, state, start)


def _shaped(detector: Detector, evidence: Evidence, state: State, start: Evidence) -> Terms:
    inner, own = detector.shaped(evidence, state, evidence)
    _, first = detector.shaped(start, state, evidence)
    name, _ = rule_of(inner)
    return RULES[name](inner, own, {}, first)


def _measured(
    detector: Detector, evidence: Evidence, state: State, values: dict[Read, Tensor]
) -> Tensor:
    size = len(next(iter(values.values())))
    reads = Reads(evidence.reads)
    kept = reads if set(reads) <= set(values) else Reads(tuple(values))
    some = Evidence(size, evidence.classes, evidence.head, None, kept, values)
    return detector.measure(some, state)


RULES: dict[str, Rule] = {
    "logit path": _logit_path,
    "feature path": _feature_path,
    "terms": _terms,
    "shaped": _shaped,
    "layers": _terms,
}
"""Name → rule."""
