"""Saved detectors: one safetensors file, every bit of it covered by a hash, bound to one model.

What is named here needs neither torch nor a model; `fingerprint`, `canary` and `tensors` are
imported by their full names, as they need torch.
"""

from gradood.artifact.card import card
from gradood.artifact.container import Spec, Stored
from gradood.artifact.file import Artifact, Verified, check, read, write
from gradood.artifact.identity import Fingerprint, differences, mismatch
from gradood.artifact.manifest import (
    FORMAT,
    CanaryRecord,
    DetectorRecord,
    FitSummary,
    Format,
    Manifest,
    ModelRecord,
    Override,
)

__all__ = [
    "Artifact",
    "CanaryRecord",
    "DetectorRecord",
    "FORMAT",
    "Fingerprint",
    "FitSummary",
    "Format",
    "Manifest",
    "ModelRecord",
    "Override",
    "Spec",
    "Stored",
    "Verified",
    "card",
    "check",
    "differences",
    "mismatch",
    "read",
    "write",
]
