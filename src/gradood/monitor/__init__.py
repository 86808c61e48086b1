"""The monitor: detectors bound to a model; what they learn, decide and save."""

from gradood.engine.detector_set import Detectors
from gradood.engine.partials import Partials
from gradood.monitor.monitor import Monitor
from gradood.monitor.saving import load

__all__ = ["Detectors", "Monitor", "Partials", "load"]
