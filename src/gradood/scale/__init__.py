"""Scoring, fits and calibrations over a cluster, by actors of Ray; needs ``gradood[ray]``.

Scoring over devices of this machine needs no Ray.

Importing this neither imports nor starts Ray.
"""

from gradood.scale._calibrating import calibrate
from gradood.scale._fitting import fit
from gradood.scale._scoring import score_images
from gradood.scale.cluster import Cluster
from gradood.scale.devices import Devices
from gradood.scale.loading import Loading
from gradood.scale.subject import Subject

__all__ = ["Cluster", "Devices", "Loading", "Subject", "calibrate", "fit", "score_images"]
