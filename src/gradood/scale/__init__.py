"""Scoring and fits over a cluster, by actors of Ray; or over devices of this machine, without it.

Importing this neither imports nor starts Ray.
"""

from gradood.scale._fitting import fit
from gradood.scale._scoring import score_images
from gradood.scale.cluster import Cluster
from gradood.scale.devices import Devices
from gradood.scale.subject import Subject

__all__ = ["Cluster", "Devices", "Subject", "fit", "score_images"]
