"""Out-of-distribution detection for any trained classifier.

Importing this package is cheap: torch and everything else load on first use.
"""

import importlib
from typing import TYPE_CHECKING, Any

from gradood import _moved

if TYPE_CHECKING:
    from gradood import errors, metrics
    from gradood.calibration.results import Result, Results
    from gradood.detectors import (
        ASHB,
        ASHP,
        ASHS,
        DICE,
        FDBD,
        GAIAA,
        GAIAZ,
        GEN,
        GROOD,
        KNN,
        LTS,
        MSP,
        NAC,
        NCI,
        NECO,
        ODIN,
        RMDS,
        SCALE,
        SHE,
        VRA,
        AdaScaleA,
        AdaScaleL,
        Energy,
        Entropy,
        ExGrad,
        GradNorm,
        GradOrth,
        GradPCA,
        GradUncertainty,
        Gram,
        KLMatching,
        LINe,
        LowDimGrad,
        Mahalanobis,
        MahalanobisPlusPlus,
        MaxLogit,
        NNGuide,
        OpenMax,
        ReAct,
        Residual,
        RMDSPlusPlus,
        TemperatureScaling,
        ViM,
    )
    from gradood.detectors.base import Detector, Learner
    from gradood.monitor import Monitor, load
    from gradood.monitor.evaluation import Table, evaluate
    from gradood.monitor.inspection import inspect
    from gradood.registry import methods

__version__ = "0.1.0"

__all__ = [
    "ASHB",
    "ASHP",
    "ASHS",
    "AdaScaleA",
    "AdaScaleL",
    "DICE",
    "Detector",
    "Energy",
    "Entropy",
    "ExGrad",
    "FDBD",
    "GAIAA",
    "GAIAZ",
    "GEN",
    "GROOD",
    "GradNorm",
    "GradOrth",
    "GradPCA",
    "GradUncertainty",
    "Gram",
    "KLMatching",
    "KNN",
    "LINe",
    "LTS",
    "Learner",
    "LowDimGrad",
    "MSP",
    "Mahalanobis",
    "MahalanobisPlusPlus",
    "MaxLogit",
    "Monitor",
    "NAC",
    "NCI",
    "NECO",
    "NNGuide",
    "ODIN",
    "OpenMax",
    "RMDS",
    "RMDSPlusPlus",
    "ReAct",
    "Residual",
    "Result",
    "Results",
    "SCALE",
    "SHE",
    "Table",
    "TemperatureScaling",
    "VRA",
    "ViM",
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
    "Result": "gradood.calibration.results",
    "Results": "gradood.calibration.results",
    "Table": "gradood.monitor.evaluation",
    "evaluate": "gradood.monitor.evaluation",
    "inspect": "gradood.monitor.inspection",
    "load": "gradood.monitor",
    "methods": "gradood.registry",
}


_moved.install()


def __getattr__(name: str) -> Any:
    if name in ("errors", "metrics"):
        return importlib.import_module(f"gradood.{name}")
    if name not in __all__:
        raise AttributeError(f"module 'gradood' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES.get(name, "gradood.detectors")), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
