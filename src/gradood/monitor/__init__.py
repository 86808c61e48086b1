"""The monitor: detectors bound to a model; what they learn, decide and save."""

from gradood.monitor.monitor import Monitor
from gradood.monitor.partials import Partials
from gradood.monitor.roster import Detectors
from gradood.monitor.saving import load

__all__ = ["Detectors", "Monitor", "Partials", "load"]
