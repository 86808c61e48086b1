"""Out-of-distribution detection for any trained classifier.

Importing this package is cheap: torch and everything else load on first use.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gradood import errors, metrics
    from gradood.decision import Result, Results
    from gradood.detectors import (
        GAIAA,
        GAIAZ,
        GROOD,
        KNN,
        MSP,
        Energy,
        GradNorm,
        LINe,
        Mahalanobis,
        MaxLogit,
    )
    from gradood.detectors.base import Detector, Learner
    from gradood.evaluation import Table, evaluate
    from gradood.inspection import inspect
    from gradood.monitor import Monitor, load
    from gradood.registry import methods

__version__ = "0.1.0"

__all__ = [
    "Detector",
    "Energy",
    "GAIAA",
    "GAIAZ",
    "GROOD",
    "GradNorm",
    "KNN",
    "LINe",
    "Learner",
    "MSP",
    "Mahalanobis",
    "MaxLogit",
    "Monitor",
    "Result",
    "Results",
    "Table",
    "errors",
    "evaluate",
    "inspect",
    "load",
    "methods",
    "metrics",
]

_HOMES = {
    "Detector": "gradood.detectors.base",
    "Learner": "gradood.detectors.base",
    "Monitor": "gradood.monitor",
    "Result": "gradood.decision",
    "Results": "gradood.decision",
    "Table": "gradood.evaluation",
    "evaluate": "gradood.evaluation",
    "inspect": "gradood.inspection",
    "load": "gradood.monitor",
    "methods": "gradood.registry",
}


def __getattr__(name: str) -> Any:
    if name in ("errors", "metrics"):
        return importlib.import_module(f"gradood.{name}")
    if name not in __all__:
        raise AttributeError(f"module 'gradood' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES.get(name, "gradood.detectors")), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
