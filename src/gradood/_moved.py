"""Old module paths, importable for one release after a module moved.

Importing one of them gives the module at its new path and a `DeprecationWarning`.
"""

import importlib
import sys
import warnings
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

__all__ = ["MOVED", "install"]

MOVED = {
    "artifact.atomic": "io.atomic",
    "artifact.canonical": "io.canonical",
    "artifact.strict": "io.records",
    "batches": "engine.batches",
    "bench.arena": "bench.runner",
    "bench.arena_form": "bench.record_form",
    "bench.arena_record": "bench.record",
    "bench.cache": "io.cache",
    "bench.change": "bench.difference",
    "bench.changes": "bench.diff",
    "bench.check": "bench.gate",
    "bench.contest": "bench.entries",
    "bench.documents": "io.json",
    "bench.gathering": "bench.readings",
    "bench.learning": "bench.ensemble",
    "bench.overlap": "bench.leakage",
    "bench.selection": "bench.method_args",
    "bench.settings": "bench.config",
    "bench.statistics": "metrics",
    "bench.statistics.analysis": "metrics.analysis",
    "bench.statistics.areas": "metrics.delong",
    "bench.statistics.pairs": "metrics.significance",
    "bench.statistics.ranking": "metrics.ranking",
    "bench.statistics.resampling": "metrics.bootstrap",
    "bench.statistics.scored": "metrics.scored",
    "bench.statistics.seeds": "metrics.seeds",
    "bench.survey": "engine.compatibility",
    "bench.versions": "bench.cache_key",
    "binding": "engine.binding",
    "calibration.decision": "calibration.conformal",
    "calibration.groups": "calibration.mondrian",
    "calibration.held_out": "calibration.fitting",
    "calibration.promise": "calibration.guarantee",
    "calibration.selection": "calibration.fdr",
    "cli.contest": "cli.entries",
    "decision": "calibration.results",
    "evaluation": "monitor.evaluation",
    "inspection": "monitor.inspection",
    "monitor.partials": "engine.partials",
    "monitor.progress": "engine.progress",
    "monitor.reader": "engine.reader",
    "monitor.roster": "engine.detector_set",
    "monitor.rows": "engine.rows",
    "report.arena": "report.views",
    "scoring": "batch",
    "scoring.columns": "batch.columns",
    "scoring.decoding": "batch.decoding",
    "scoring.forward": "batch.forward",
    "scoring.inputs": "batch.inputs",
    "scoring.items": "batch.items",
    "scoring.job": "batch.job",
    "scoring.listing": "batch.listing",
    "scoring.settings": "batch.settings",
    "scoring.store": "batch.store",
    "strict": "io.tables",
    "subject": "models.load",
    "testing.checks.company": "testing.checks.isolation",
    "testing.subject": "testing.case",
    "training.certificate": "training.robustness",
    "training.feed": "training.batches",
    "training.material": "training.data",
    "training.overlap": "training.class_overlap",
    "training.plan": "training.steps",
    "training.preparation": "training.setup",
    "training.trained": "training.result",
    "training.world": "training.distributed",
}
"""Old path → new path, both below `gradood`."""


class _MovedModules(MetaPathFinder, Loader):
    """Finds the modules of `MOVED` at their new paths; comes before the finder of files."""

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None = None,
        target: ModuleType | None = None,
    ) -> ModuleSpec | None:
        """A spec for an old path; None for every other module."""
        package, _, name = fullname.partition(".")
        if package != "gradood" or name not in MOVED:
            return None
        return ModuleSpec(fullname, self)

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """The module at its new path."""
        current = f"gradood.{MOVED[spec.name.partition('.')[2]]}"
        warnings.warn(
            f"{spec.name} moved to {current}; the old path goes with the next release.",
            DeprecationWarning,
            stacklevel=2,  # `warnings` itself looks past the frames of the import system.
        )
        module = importlib.import_module(current)
        spec.loader_state = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        """Give the module back its own spec, which the import of the old path replaced."""
        spec = module.__spec__
        assert spec is not None
        module.__spec__ = spec.loader_state


def install() -> None:
    """Make the old paths importable; once, however often it is called."""
    if not any(isinstance(finder, _MovedModules) for finder in sys.meta_path):
        sys.meta_path.insert(0, _MovedModules())
