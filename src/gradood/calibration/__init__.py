"""Held-out in-distribution scores to p-values and decisions with a stated false-alarm rate."""

from gradood.calibration.decision import Calibration
from gradood.calibration.fusion import Fusion, fuse, required_fused
from gradood.calibration.held_out import calibrate
from gradood.calibration.promise import Promise, required
from gradood.calibration.selection import benjamini_hochberg

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
