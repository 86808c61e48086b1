"""The monitor: detectors bound to a model; what they learn, decide and save."""

from gradood._engine.partials import Partials
from gradood._engine.roster import Detectors
from gradood.monitor.evaluation import Table, evaluate
from gradood.monitor.inspection import Inspection, inspect
from gradood.monitor.kept_fit import load_partials, save_partials
from gradood.monitor.loading import load
from gradood.monitor.monitor import Monitor

__all__ = [
    "Detectors",
    "Inspection",
    "Monitor",
    "Partials",
    "Table",
    "evaluate",
    "inspect",
    "load",
    "load_partials",
    "save_partials",
]
