"""Detectors, one per file, named as in their papers; each is imported on first use."""

from typing import TYPE_CHECKING, Any

from gradood.registry import built_in, built_in_class

if TYPE_CHECKING:  # For type checkers alone; at run time the files themselves are the list.
    from gradood.detectors.actsub import ActSub as ActSub
    from gradood.detectors.adascale_a import AdaScaleA as AdaScaleA
    from gradood.detectors.adascale_l import AdaScaleL as AdaScaleL
    from gradood.detectors.ash_b import ASHB as ASHB
    from gradood.detectors.ash_p import ASHP as ASHP
    from gradood.detectors.ash_s import ASHS as ASHS
    from gradood.detectors.blood import BLOOD as BLOOD
    from gradood.detectors.cadref import CADRef as CADRef
    from gradood.detectors.caref import CARef as CARef
    from gradood.detectors.davis import DAVIS as DAVIS
    from gradood.detectors.dice import DICE as DICE
    from gradood.detectors.energy import Energy as Energy
    from gradood.detectors.entropy import Entropy as Entropy
    from gradood.detectors.exgrad import ExGrad as ExGrad
    from gradood.detectors.fdbd import FDBD as FDBD
    from gradood.detectors.gaia_a import GAIAA as GAIAA
    from gradood.detectors.gaia_z import GAIAZ as GAIAZ
    from gradood.detectors.gen import GEN as GEN
    from gradood.detectors.gl_mcm import GLMCM as GLMCM
    from gradood.detectors.grad_uncertainty import GradUncertainty as GradUncertainty
    from gradood.detectors.gradnorm import GradNorm as GradNorm
    from gradood.detectors.gradorth import GradOrth as GradOrth
    from gradood.detectors.gradpca import GradPCA as GradPCA
    from gradood.detectors.gram import Gram as Gram
    from gradood.detectors.grood import GROOD as GROOD
    from gradood.detectors.i_odin import IODIN as IODIN
    from gradood.detectors.itp import ITP as ITP
    from gradood.detectors.joint_energy import JointEnergy as JointEnergy
    from gradood.detectors.kl_matching import KLMatching as KLMatching
    from gradood.detectors.knn import KNN as KNN
    from gradood.detectors.line import LINe as LINe
    from gradood.detectors.logit_gap import LogitGap as LogitGap
    from gradood.detectors.low_dim_grad import LowDimGrad as LowDimGrad
    from gradood.detectors.lts import LTS as LTS
    from gradood.detectors.mahalanobis import Mahalanobis as Mahalanobis
    from gradood.detectors.mahalanobis_plus_plus import MahalanobisPlusPlus as MahalanobisPlusPlus
    from gradood.detectors.max_logit import MaxLogit as MaxLogit
    from gradood.detectors.mcm import MCM as MCM
    from gradood.detectors.msp import MSP as MSP
    from gradood.detectors.nac import NAC as NAC
    from gradood.detectors.nci import NCI as NCI
    from gradood.detectors.neco import NECO as NECO
    from gradood.detectors.neg_label import NegLabel as NegLabel
    from gradood.detectors.nnguide import NNGuide as NNGuide
    from gradood.detectors.odin import ODIN as ODIN
    from gradood.detectors.open_max import OpenMax as OpenMax
    from gradood.detectors.optfs import OptFS as OptFS
    from gradood.detectors.ora import ORA as ORA
    from gradood.detectors.probability_sum import ProbabilitySum as ProbabilitySum
    from gradood.detectors.projection_share import ProjectionShare as ProjectionShare
    from gradood.detectors.radial_mahalanobis import RadialMahalanobis as RadialMahalanobis
    from gradood.detectors.ras import RAS as RAS
    from gradood.detectors.react import ReAct as ReAct
    from gradood.detectors.relation import Relation as Relation
    from gradood.detectors.residual import Residual as Residual
    from gradood.detectors.rmds import RMDS as RMDS
    from gradood.detectors.rmds_plus_plus import RMDSPlusPlus as RMDSPlusPlus
    from gradood.detectors.scale import SCALE as SCALE
    from gradood.detectors.she import SHE as SHE
    from gradood.detectors.temperature_scaling import TemperatureScaling as TemperatureScaling
    from gradood.detectors.vim import ViM as ViM
    from gradood.detectors.vra import VRA as VRA
    from gradood.detectors.vra_plus_plus import VRAPlusPlus as VRAPlusPlus
    from gradood.detectors.weiper_kld import WeiPerKLD as WeiPerKLD


def __getattr__(name: str) -> Any:
    if name == "__all__":
        return list(built_in())
    if name not in built_in():
        raise AttributeError(f"module 'gradood.detectors' has no attribute {name!r}")
    return built_in_class(name)


def __dir__() -> list[str]:
    return sorted({*globals(), *built_in()})
