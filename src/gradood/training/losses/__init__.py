"""The training objectives: independent pieces, each a function of one forward pass."""

from gradood.training.losses.classification import CrossEntropy, LogitNorm
from gradood.training.losses.exposure import OutlierExposure
from gradood.training.losses.gradient import InputGradientPenalty, active_rows
from gradood.training.losses.margin import EnergyMarginLoss
from gradood.training.losses.mixture import Mixture, MixtureExposure, mix
from gradood.training.losses.virtual import VirtualOutliers

__all__ = [
    "CrossEntropy",
    "EnergyMarginLoss",
    "InputGradientPenalty",
    "LogitNorm",
    "Mixture",
    "MixtureExposure",
    "OutlierExposure",
    "VirtualOutliers",
    "active_rows",
    "mix",
]
