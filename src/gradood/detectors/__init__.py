"""Detectors, one per file, named as in their papers. `__all__` is what the registry knows."""

from gradood.detectors.energy import Energy
from gradood.detectors.gaia_a import GAIAA
from gradood.detectors.gaia_z import GAIAZ
from gradood.detectors.gradnorm import GradNorm
from gradood.detectors.grood import GROOD
from gradood.detectors.knn import KNN
from gradood.detectors.line import LINe
from gradood.detectors.mahalanobis import Mahalanobis
from gradood.detectors.max_logit import MaxLogit
from gradood.detectors.msp import MSP

__all__ = [
    "Energy",
    "GAIAA",
    "GAIAZ",
    "GROOD",
    "GradNorm",
    "KNN",
    "LINe",
    "MSP",
    "Mahalanobis",
    "MaxLogit",
]
