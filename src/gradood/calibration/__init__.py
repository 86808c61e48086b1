"""Held-out in-distribution scores to p-values and decisions with a stated false-alarm rate."""

from gradood.calibration.conformal import Calibration
from gradood.calibration.fdr import benjamini_hochberg
from gradood.calibration.fitting import calibrate
from gradood.calibration.fusion import Fusion, fuse, required_fused
from gradood.calibration.guarantee import Promise, required

__all__ = [
    "Calibration",
    "Fusion",
    "Promise",
    "benjamini_hochberg",
    "calibrate",
    "fuse",
    "required",
    "required_fused",
]
