"""What activation shaping has in common: any logit score, measured on what was shaped."""

import importlib
from functools import cache
from typing import ClassVar, Protocol

from torch import Tensor

from gradood.detectors.base import Detector, Plan
from gradood.errors import ConfigError, suggest
from gradood.evidence import FEATURES, LOGITS, Evidence, Linear, Read, gather
from gradood.functional.gradnorm import linear_logits
from gradood.taps import Network

__all__ = ["check_score", "measured", "shaped_plan"]

_PROBED = 8


class _Shaping(Protocol):
    name: ClassVar[str]
    score: str | Detector


def check_score(score: str | Detector) -> None:
    """Check the option `score` of a shaping method.

    Raises:
        ConfigError: it names no detector, or one that must be fitted: that would have to learn
            from shaped features, which its fit does not see.
    """
    inner = _detector(score)
    if inner.learns:
        raise ConfigError(
            f"score={score!r} must be fitted; expected a detector that learns nothing and reads "
            "logits or features alone, such as 'energy'."
        )


def shaped_plan(
    detector: _Shaping,
    network: Network,
    probe: Tensor,
    *,
    signed: str,
    fit_reads: tuple[Read, ...] = (),
    inner_reads: tuple[Read, ...] = (LOGITS, FEATURES),
) -> Plan:
    """Features, then what the inner score reads: that is what `measured` replaces.

    Args:
        detector: the shaping method.
        network: the observed model.
        probe: inputs; whether features are signed is looked up on eight of them.
        signed: what the method means on signed features, after its name.
        fit_reads: for `accumulate`.
        inner_reads: what can be replaced.

    Raises:
        ConfigError: the inner score reads something else.

    Cost:
        One forward of eight inputs.
    """
    inner = _detector(detector.score)
    plan = inner.plan(network, probe)
    if not set(plan.reads) <= set(inner_reads):
        allowed = " or ".join(str(getattr(read, "name", read)) for read in inner_reads)
        raise ConfigError(
            f"{detector.name}: score={detector.score!r} reads other things than {detector.name} "
            f"changes; expected a score of {allowed} alone, such as 'energy'."
        )
    caveats = plan.caveats
    features = gather(network, probe[:_PROBED], (FEATURES,)).features
    if bool((features < 0).any()):
        caveats = (f"{detector.name} {signed}", *caveats)
    return Plan((FEATURES, *plan.reads), fit_reads, caveats, plan.notes)


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
    reads = evidence.reads[1:]
    values: dict[Read, Tensor] = {FEATURES: features}
    if LOGITS in reads:
        logits = linear_logits(features, head.weight, head.bias)
        values[LOGITS] = logits if factor is None else factor[:, None] * logits
    shaped = Evidence(evidence.size, evidence.classes, head, None, reads, values)
    return _detector(score).measure(shaped, {})


@cache
def _built_in() -> dict[str, type[Detector]]:
    # By name at run time: the package imports the modules that import this one.
    package = importlib.import_module("gradood.detectors")
    return {kind.name: kind for kind in (getattr(package, name) for name in package.__all__)}


def _detector(score: object) -> Detector:
    if isinstance(score, Detector):
        return score
    known = _built_in()
    if not isinstance(score, str) or score not in known:
        raise ConfigError(
            f"score={score!r}; expected the name of one of gradood's detectors, or an instance: "
            f"{suggest(str(score), known)}"
        )
    return known[score]()
