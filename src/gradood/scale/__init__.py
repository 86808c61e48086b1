"""Scoring, fits, calibrations and benchmarks over a cluster of Ray, or devices of this machine.

A cluster needs ``gradood[ray]``; devices need nothing.

Importing this neither imports nor starts Ray.
"""

from gradood.scale._benching import bench
from gradood.scale._calibrating import calibrate
from gradood.scale._fitting import fit
from gradood.scale._scoring import score_images
from gradood.scale.cluster import Cluster
from gradood.scale.devices import Devices
from gradood.scale.loading import Loading
from gradood.scale.subject import Subject

__all__ = [
    "Cluster",
    "Devices",
    "Loading",
    "Subject",
    "bench",
    "calibrate",
    "fit",
    "score_images",
]
