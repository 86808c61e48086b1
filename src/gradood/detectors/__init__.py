"""Detectors, one per file, named as in their papers. `__all__` is what the registry knows."""

from gradood.detectors.adascale_a import AdaScaleA
from gradood.detectors.adascale_l import AdaScaleL
from gradood.detectors.ash_b import ASHB
from gradood.detectors.ash_p import ASHP
from gradood.detectors.ash_s import ASHS
from gradood.detectors.dice import DICE
from gradood.detectors.energy import Energy
from gradood.detectors.entropy import Entropy
from gradood.detectors.exgrad import ExGrad
from gradood.detectors.fdbd import FDBD
from gradood.detectors.gaia_a import GAIAA
from gradood.detectors.gaia_z import GAIAZ
from gradood.detectors.gen import GEN
from gradood.detectors.grad_uncertainty import GradUncertainty
from gradood.detectors.gradnorm import GradNorm
from gradood.detectors.gradorth import GradOrth
from gradood.detectors.gradpca import GradPCA
from gradood.detectors.gram import Gram
from gradood.detectors.grood import GROOD
from gradood.detectors.kl_matching import KLMatching
from gradood.detectors.knn import KNN
from gradood.detectors.line import LINe
from gradood.detectors.low_dim_grad import LowDimGrad
from gradood.detectors.lts import LTS
from gradood.detectors.mahalanobis import Mahalanobis
from gradood.detectors.mahalanobis_plus_plus import MahalanobisPlusPlus
from gradood.detectors.max_logit import MaxLogit
from gradood.detectors.msp import MSP
from gradood.detectors.nac import NAC
from gradood.detectors.nci import NCI
from gradood.detectors.neco import NECO
from gradood.detectors.nnguide import NNGuide
from gradood.detectors.odin import ODIN
from gradood.detectors.open_max import OpenMax
from gradood.detectors.react import ReAct
from gradood.detectors.residual import Residual
from gradood.detectors.rmds import RMDS
from gradood.detectors.rmds_plus_plus import RMDSPlusPlus
from gradood.detectors.scale import SCALE
from gradood.detectors.she import SHE
from gradood.detectors.temperature_scaling import TemperatureScaling
from gradood.detectors.vim import ViM
from gradood.detectors.vra import VRA

__all__ = [
    "ASHB",
    "ASHP",
    "ASHS",
    "AdaScaleA",
    "AdaScaleL",
    "DICE",
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
    "LowDimGrad",
    "MSP",
    "Mahalanobis",
    "MahalanobisPlusPlus",
    "MaxLogit",
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
    "SCALE",
    "SHE",
    "TemperatureScaling",
    "VRA",
    "ViM",
]
