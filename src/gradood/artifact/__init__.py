"""Saved detectors: one safetensors file, every bit of it covered by a hash, bound to one model.

What is imported here needs neither torch nor a model. The modules `canary`, `fingerprint` and
`tensors` need torch and are imported on first use.
"""

import importlib
from types import ModuleType
from typing import TYPE_CHECKING

from gradood.artifact.card import card
from gradood.artifact.container import Spec, Stored
from gradood.artifact.file import (
    Artifact,
    Verified,
    check,
    read,
    read_partials,
    write,
    write_partials,
)
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
from gradood.artifact.numerics import NumericsRecord, numeric_differences
from gradood.artifact.partials import PartialsManifest, PartialsRecord
from gradood.artifact.rejection import GuardRecord

if TYPE_CHECKING:
    from gradood.artifact import canary, fingerprint, tensors

__all__ = [
    "Artifact",
    "CanaryRecord",
    "DetectorRecord",
    "FORMAT",
    "Fingerprint",
    "FitSummary",
    "Format",
    "GuardRecord",
    "Manifest",
    "ModelRecord",
    "NumericsRecord",
    "Override",
    "PartialsManifest",
    "PartialsRecord",
    "Spec",
    "Stored",
    "Verified",
    "canary",
    "card",
    "check",
    "differences",
    "fingerprint",
    "mismatch",
    "numeric_differences",
    "read",
    "read_partials",
    "tensors",
    "write",
    "write_partials",
]


def __getattr__(name: str) -> ModuleType:
    if name not in ("canary", "fingerprint", "tensors"):
        raise AttributeError(f"module 'gradood.artifact' has no attribute {name!r}")
    return importlib.import_module(f"gradood.artifact.{name}")
