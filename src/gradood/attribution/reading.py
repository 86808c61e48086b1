"""Evidence of inputs from which scores are explained, read as scores are."""

from dataclasses import replace

from torch import Tensor

from gradood._engine.batches import Batch
from gradood._engine.detector_set import DetectorSet, detached
from gradood._engine.rows import Inputs
from gradood.attribution._rules import rule_of
from gradood.attribution.contribution import Contribution, contributions
from gradood.errors import TapError
from gradood.evidence import FEATURES, LOGITS, Evidence

__all__ = ["explained", "read_evidence", "unexplained"]


def read_evidence(detectors: DetectorSet, inputs: Inputs) -> Evidence:
    """What the detectors that can be explained read of a batch, and features, logits and head.

    Args:
        detectors: bound, and fitted where they learn.
        inputs: (batch, …).

    Raises:
        TapError: the model has no head.
    """
    names = [name for name in detectors.detectors if name not in unexplained(detectors)]
    reads = [read for name in names for read in detectors.reads(name)]
    wanted = tuple(dict.fromkeys((*reads, FEATURES, LOGITS)))
    return detectors.reader.read(Batch(inputs), wanted).evidence


def explained(
    detectors: DetectorSet, evidence: Evidence, reference: Tensor
) -> tuple[dict[str, Contribution], dict[str, str]]:
    """Contributions to the scores of each detector, and why others have none, both by name.

    Args:
        detectors: bound, and fitted where they learn.
        evidence: from `read_evidence`.
        reference: (width,) the feature vector from which contributions count.
    """
    found: dict[str, Contribution] = {}
    reasons = unexplained(detectors)
    for name, detector in detectors.detectors.items():
        if name in reasons:
            continue
        own = replace(evidence, reads=detectors.reads(name))
        try:
            with detached(evidence.device):
                found[name] = contributions(detector, own, reference, detectors.states.get(name))
        except TapError as error:
            reasons[name] = str(error)
    return found, reasons


def unexplained(detectors: DetectorSet) -> dict[str, str]:
    """Why a detector is not explained by units of the features, by name."""
    reasons: dict[str, str] = {}
    for name, detector in detectors.detectors.items():
        try:
            rule_of(detector)
        except TapError as error:
            reasons[name] = str(error)
    return reasons
