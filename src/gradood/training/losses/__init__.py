"""Training losses, each a function of one forward pass."""

from gradood.training.losses.cross_entropy import (
    BinaryCrossEntropy,
    CrossEntropy,
    LogitNorm,
    Mixture,
    MixtureExposure,
    OutlierExposure,
    mix,
)
from gradood.training.losses.energy import EnergyMarginLoss, InputGradientPenalty, active_rows
from gradood.training.losses.shaping import shaped_features, with_shaped_gradient
from gradood.training.losses.virtual import VirtualOutliers

__all__ = [
    "BinaryCrossEntropy",
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
    "shaped_features",
    "with_shaped_gradient",
]
