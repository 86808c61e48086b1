"""Training with auxiliary outliers: GReg, GReg+ and the outlier-exposure family."""

from gradood.training.catalog import METHODS, load_recipe, recipes
from gradood.training.data import TrainingData
from gradood.training.fractals import FractalPictures
from gradood.training.losses import (
    BinaryCrossEntropy,
    CrossEntropy,
    EnergyMarginLoss,
    InputGradientPenalty,
    LogitNorm,
    MixtureExposure,
    OutlierExposure,
    VirtualOutliers,
)
from gradood.training.recipe import Recipe
from gradood.training.result import Trained
from gradood.training.sampler import Candidates, ClusterEnergySampler
from gradood.training.trainer import Options, Trainer

__all__ = [
    "BinaryCrossEntropy",
    "Candidates",
    "ClusterEnergySampler",
    "CrossEntropy",
    "EnergyMarginLoss",
    "FractalPictures",
    "InputGradientPenalty",
    "LogitNorm",
    "METHODS",
    "MixtureExposure",
    "Options",
    "OutlierExposure",
    "Recipe",
    "Trained",
    "Trainer",
    "TrainingData",
    "VirtualOutliers",
    "load_recipe",
    "recipes",
]
