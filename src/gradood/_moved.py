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
    "bench.provenance": "bench.folder",
    "calibration.fdr": "calibration.results",
    "io.canonical": "io.json",
    "report.agreement": "report.curves",
    "report.measures": "report.views",
    "artifact.atomic": "io.atomic",
    "artifact.canonical": "io.json",
    "artifact.strict": "io.records",
    "batches": "engine.batches",
    "bench.arena": "bench.runner",
    "bench.arena_form": "bench.record",
    "bench.arena_record": "bench.record",
    "bench.cache": "io.cache",
    "bench.changes": "bench.diff",
    "bench.check": "bench.gate",
    "bench.contest": "bench.entries",
    "bench.documents": "io.json",
    "bench.gathering": "engine.reader",
    "bench.learning": "engine.detector_set",
    "bench.matching": "bench.diff",
    "bench.overlap": "bench.leakage",
    "bench.selection": "bench.method_args",
    "bench.settings": "bench.config",
    "bench.shards": "engine.batches",
    "bench.statistics": "metrics",
    "bench.statistics.analysis": "metrics.analysis",
    "bench.statistics.areas": "metrics.delong",
    "bench.statistics.pairs": "metrics.significance",
    "bench.statistics.ranking": "metrics.ranking",
    "bench.statistics.resampling": "metrics.bootstrap",
    "bench.statistics.scored": "metrics.counts",
    "bench.statistics.seeds": "metrics.ranking",
    "bench.survey": "engine.binding",
    "bench.versions": "bench.cache_key",
    "binding": "engine.binding",
    "calibration.decision": "calibration.conformal",
    "calibration.groups": "calibration.mondrian",
    "calibration.held_out": "calibration.fitting",
    "calibration.inputs": "calibration.conformal",
    "calibration.promise": "calibration.guarantee",
    "calibration.selection": "calibration.results",
    "cli.calibrate": "cli.fit",
    "cli.card": "cli.artifact",
    "cli.compare": "cli.records",
    "cli.contest": "cli.entries",
    "cli.demo": "cli.bench",
    "cli.inspect": "cli.methods",
    "cli.report": "cli.records",
    "cli.saved": "cli.fit",
    "cli.verify": "cli.artifact",
    "data.columns": "data.parquet",
    "data.condition": "data.decode",
    "data.content": "data.storage",
    "data.files": "data.images",
    "data.folder": "data.images",
    "data.image_list": "data.images",
    "data.remote": "data.storage",
    "data.shards": "data.tables",
    "data.source": "data.sources",
    "decision": "calibration.results",
    "detectors.adaptive_scaling": "detectors._shared.scaling",
    "detectors.classes": "detectors._shared.labels",
    "detectors.defaults": "detectors._shared.layers",
    "detectors.gaussians": "detectors._shared.gaussians",
    "detectors.outliers": "detectors._shared.outliers",
    "detectors.perturbing": "detectors._shared.perturbing",
    "detectors.shaped": "detectors._shared.shaping",
    "detectors.subspaces": "detectors._shared.subspaces",
    "evaluation": "monitor.evaluation",
    "evidence.keys": "evidence.content_keys",
    "evidence.parameters": "evidence.per_sample",
    "evidence.plain": "evidence.serialize",
    "evidence.reads": "evidence.requests",
    "inspection": "monitor.inspection",
    "models.factory": "models.source",
    "models.library": "models.libraries",
    "models.processor": "models.hugging_face",
    "models.timm": "models.libraries",
    "models.torchvision": "models.libraries",
    "models.zoo": "models.opened",
    "monitor.partials": "engine.partials",
    "monitor.progress": "engine.progress",
    "monitor.reader": "engine.reader",
    "monitor.roster": "engine.roster",
    "monitor.rows": "engine.rows",
    "report.arena": "report.views",
    "scoring": "batch",
    "scoring.columns": "batch.columns",
    "scoring.decoding": "batch.decoding",
    "scoring.forward": "batch.predictor",
    "scoring.inputs": "data.sources",
    "scoring.items": "batch.decoding",
    "scoring.job": "batch.job",
    "scoring.listing": "data.image_source",
    "scoring.settings": "batch.job",
    "scoring.store": "batch.store",
    "strict": "io.records",
    "subject": "models.load",
    "taps.observation": "taps.observe",
    "taps.stages": "taps.graph",
    "testing.checks.company": "testing.checks.isolation",
    "testing.subject": "testing.case",
    "training.certificate": "training.robustness",
    "training.feed": "training.steps",
    "training.kmeans": "training.sampler",
    "training.losses.classification": "training.losses.cross_entropy",
    "training.losses.exposure": "training.losses.cross_entropy",
    "training.losses.gradient": "training.losses.energy",
    "training.losses.groups": "training.losses.energy",
    "training.losses.margin": "training.losses.energy",
    "training.losses.mixture": "training.losses.cross_entropy",
    "training.margins": "training.setup",
    "training.material": "training.data",
    "training.meter": "training.logs",
    "training.objective": "training.forward",
    "training.overlap": "training.class_overlap",
    "training.plan": "training.steps",
    "training.preparation": "training.setup",
    "training.refusals": "training.setup",
    "training.resumption": "training.checkpoint",
    "training.schedule": "training.steps",
    "training.scoring": "training.sampler",
    "training.seeds": "training.randomness",
    "training.state": "training.checkpoint",
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
