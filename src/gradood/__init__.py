"""Out-of-distribution detection for any trained classifier.

    guard = gradood.guard(model, known)   # inputs the network was not trained on
    guard(images)                         # the label of each image, or -1

    monitor = gradood.Monitor(model, ["energy", "knn"]).fit(training)
    monitor.calibrate(held_out, fpr=0.05).predict(images)["knn"].is_ood

Help on one name, such as ``help(gradood.Monitor)``, is short; this page goes on with all classes:

- `guard` makes a `Guard`, a classifier with a reject option, in one call.
- `Monitor` runs detectors by name on one forward pass; it gives a `Result` for one of them,
  `Results` by name for several. `inspect` shows what is found in a model, `load` reads what
  `save` wrote.
- `methods()` lists the detectors, with what each needs and costs; `choose` ranks them for a model
  without outliers; `evaluate` measures them with outliers and gives a `Table`.
- `region_map` shows where in an input a score comes from (`RegionMap`); `Guard.explain` why.
- `Watch` follows a stream of results, with a promise; `export` makes one ONNX graph, which an
  `OnnxJudge` runs without torch; `zero_shot` makes a classifier of an image encoder and texts.
- `Detector` and `Learner` are the bases of detectors of your own; `errors`, `metrics` and `plots`
  are modules. At the shell: ``gradood --help``.

Importing this package is cheap: torch and everything else load on first use.
"""

import importlib
import sys
from typing import TYPE_CHECKING, Any

from gradood import _moved

if TYPE_CHECKING:
    from gradood import errors as errors
    from gradood import hugging_face as hugging_face
    from gradood import metrics as metrics
    from gradood import plots as plots
    from gradood import sklearn as sklearn
    from gradood._zero_shot import zero_shot as zero_shot
    from gradood.attribution import RegionMap as RegionMap
    from gradood.attribution.region import region_map as region_map
    from gradood.bench.choice import choose as choose
    from gradood.calibration.results import Result as Result
    from gradood.calibration.results import Results as Results
    from gradood.detectors import *  # noqa: F403
    from gradood.detectors.base import Detector as Detector
    from gradood.detectors.base import Learner as Learner
    from gradood.monitor import Monitor as Monitor
    from gradood.monitor.evaluation import Table as Table
    from gradood.monitor.evaluation import evaluate as evaluate
    from gradood.monitor.inspection import inspect as inspect
    from gradood.onnx import OnnxJudge as OnnxJudge
    from gradood.onnx._export import export as export
    from gradood.registry import methods as methods
    from gradood.rejection import Guard as Guard
    from gradood.rejection import guard as guard
    from gradood.rejection import load as load
    from gradood.watch import Watch as Watch

__version__ = "0.1.0"

_HOMES = {
    "Detector": "gradood.detectors.base",
    "Guard": "gradood.rejection",
    "Learner": "gradood.detectors.base",
    "Monitor": "gradood.monitor",
    "OnnxJudge": "gradood.onnx",
    "RegionMap": "gradood.attribution",
    "Result": "gradood.calibration.results",
    "Results": "gradood.calibration.results",
    "Table": "gradood.monitor.evaluation",
    "Watch": "gradood.watch",
    "choose": "gradood.bench.choice",
    "evaluate": "gradood.monitor.evaluation",
    "export": "gradood.onnx._export",
    "guard": "gradood.rejection",
    "inspect": "gradood.monitor.inspection",
    "load": "gradood.rejection",
    "methods": "gradood.registry",
    "region_map": "gradood.attribution.region",
    "zero_shot": "gradood._zero_shot",
}
_MODULES = ("errors", "metrics", "plots")
_EDGES = ("hugging_face", "sklearn")
"""Modules for other packages, which need not be installed: in no ``import *``."""


_moved.install()


def __getattr__(name: str) -> Any:
    if name in _MODULES or name in _EDGES:
        return importlib.import_module(f"gradood.{name}")
    if name in _HOMES:
        return _public(getattr(importlib.import_module(_HOMES[name]), name))
    if name.startswith("_") and name != "__all__":
        raise AttributeError(f"module 'gradood' has no attribute {name!r}")
    registry = importlib.import_module("gradood.registry")
    if name == "__all__":
        return sorted({*_HOMES, *_MODULES, *registry.built_in()})
    if name not in registry.built_in():
        said = importlib.import_module("gradood.errors").suggest(name, __getattr__("__all__"))
        near = f"; {said}" if said.startswith("did you mean") else "."
        raise AttributeError(f"module 'gradood' has no attribute {name!r}{near}")
    return registry.built_in_class(name)


def _public(value: Any) -> Any:
    """The value, as one of this package: here it is imported from, shown and pickled."""
    home = value.__module__
    if home != "gradood":
        # Where doctest looks for what a module does not call its own.
        vars(sys.modules[home]).setdefault("__test__", {})[value.__name__] = value
        value.__module__ = "gradood"
    return value


def __dir__() -> list[str]:
    dunders = (name for name in globals() if name.startswith("__"))
    return sorted({*dunders, *__getattr__("__all__")})
