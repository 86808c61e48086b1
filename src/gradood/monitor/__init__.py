"""The monitor: detectors bound to a model; what they learn, decide and save."""

from gradood.engine.partials import Partials
from gradood.engine.roster import Detectors
from gradood.monitor.monitor import Monitor, load

__all__ = ["Detectors", "Monitor", "Partials", "load"]
