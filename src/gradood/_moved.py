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
    "artifact.atomic": "_io.atomic",
    "artifact.canonical": "_io.canonical",
    "artifact.strict": "_io.records",
    "batches": "_engine.batches",
    "bench.arena": "bench.runner",
    "bench.arena_form": "bench.record",
    "bench.arena_record": "bench.record",
    "bench.cache": "_io.cache",
    "bench.change": "bench._change",
    "bench.changes": "bench._diff",
    "bench.check": "bench._gate",
    "bench.contest": "bench.entries",
    "bench.cost": "bench._cost",
    "bench.demo": "bench._demo",
    "bench.documents": "_io.json",
    "bench.gathering": "_engine.reader",
    "bench.learning": "_engine.detector_set",
    "bench.matching": "bench._diff",
    "bench.overlap": "bench._leakage",
    "bench.page": "bench._page",
    "bench.provenance": "bench.folder",
    "bench.selection": "bench.method_args",
    "bench.settings": "bench.config",
    "bench.shards": "_engine.batches",
    "bench.statistics": "metrics",
    "bench.statistics.analysis": "metrics.analysis",
    "bench.statistics.areas": "metrics._delong",
    "bench.statistics.pairs": "metrics.significance",
    "bench.statistics.ranking": "metrics.ranking",
    "bench.statistics.resampling": "metrics._bootstrap",
    "bench.statistics.scored": "metrics.counts",
    "bench.statistics.seeds": "metrics.ranking",
    "bench.survey": "_engine.binding",
    "bench.tuning": "bench._tuning",
    "bench.versions": "bench._cache_key",
    "bibliography": "_bibliography",
    "binding": "_engine.binding",
    "calibration.curve": "calibration._curve",
    "calibration.decision": "calibration.conformal",
    "calibration.groups": "calibration._mondrian",
    "calibration.held_out": "calibration.fitting",
    "calibration.inputs": "calibration.conformal",
    "calibration.promise": "calibration.guarantee",
    "calibration.selection": "calibration.results",
    "cli.app": "cli._app",
    "cli.bench": "cli._bench",
    "cli.calibrate": "cli._calibrate",
    "cli.card": "cli._artifact",
    "cli.compare": "cli._records",
    "cli.contest": "cli._entries",
    "cli.demo": "cli._bench",
    "cli.exits": "cli._exits",
    "cli.fit": "cli._fit",
    "cli.inspect": "cli._methods",
    "cli.methods": "cli._methods",
    "cli.options": "cli._options",
    "cli.output": "cli._output",
    "cli.records": "cli._records",
    "cli.report": "cli._records",
    "cli.results": "cli._results",
    "cli.saved": "cli._fit",
    "cli.score": "cli._score",
    "cli.train": "cli._train",
    "cli.verify": "cli._artifact",
    "data.columns": "data._parquet",
    "data.condition": "data._decode",
    "data.content": "data._storage",
    "data.decode": "data._decode",
    "data.extras": "data._extras",
    "data.files": "data.images",
    "data.folder": "data.images",
    "data.image_list": "data.images",
    "data.parquet": "data._parquet",
    "data.remote": "data._storage",
    "data.shards": "data._tables",
    "data.source": "data.sources",
    "data.tables": "data._tables",
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
    "evidence.parameters": "evidence._per_sample",
    "evidence.perturbed": "evidence._perturbed",
    "evidence.plain": "evidence.serialize",
    "evidence.reads": "evidence.requests",
    "inspection": "monitor.inspection",
    "models.factory": "models.source",
    "models.hugging_face": "models._hugging_face",
    "models.library": "models._libraries",
    "models.processor": "models._image_processor",
    "models.timm": "models._libraries",
    "models.torchvision": "models._libraries",
    "models.zoo": "models.opened",
    "monitor.partials": "_engine.partials",
    "monitor.progress": "_engine.progress",
    "monitor.reader": "_engine.reader",
    "monitor.roster": "_engine.roster",
    "monitor.rows": "_engine.rows",
    "monitor.saving": "monitor._saving",
    "report.advice": "report._advice",
    "report.agreement": "report._curves",
    "report.arena": "report._views",
    "report.content": "report._content",
    "report.curves": "report._curves",
    "report.facts": "report._facts",
    "report.gallery": "report._gallery",
    "report.measures": "report._views",
    "report.page": "report._page",
    "scoring": "batch",
    "scoring.columns": "batch._columns",
    "scoring.decoding": "batch._decoding",
    "scoring.forward": "batch.predictor",
    "scoring.inputs": "data.sources",
    "scoring.items": "batch._decoding",
    "scoring.job": "batch.job",
    "scoring.listing": "data.image_source",
    "scoring.settings": "batch.job",
    "scoring.store": "batch._store",
    "strict": "_io.records",
    "subject": "models._load",
    "taps.capture": "taps._capture",
    "taps.observation": "taps.observe",
    "taps.stages": "taps.graph",
    "testing.architectures": "testing._architectures",
    "testing.checks.company": "testing.checks._isolation",
    "testing.checks.deciding": "testing.checks._deciding",
    "testing.checks.declaration": "testing.checks._declaration",
    "testing.checks.inputs": "testing.checks._inputs",
    "testing.checks.learning": "testing.checks._learning",
    "testing.checks.model": "testing.checks._model",
    "testing.checks.numbers": "testing.checks._numbers",
    "testing.checks.orientation": "testing.checks._orientation",
    "testing.checks.rows": "testing.checks._rows",
    "testing.snapshot": "testing._snapshot",
    "testing.subject": "testing.case",
    "training.certificate": "training._robustness",
    "training.checkpoint": "training._checkpoint",
    "training.engine": "training._engine",
    "training.feed": "training._steps",
    "training.forward": "training._forward",
    "training.kmeans": "training.sampler",
    "training.logs": "training._logs",
    "training.losses.classification": "training.losses.cross_entropy",
    "training.losses.exposure": "training.losses.cross_entropy",
    "training.losses.gradient": "training.losses.energy",
    "training.losses.groups": "training.losses.energy",
    "training.losses.margin": "training.losses.energy",
    "training.losses.mixture": "training.losses.cross_entropy",
    "training.margins": "training._setup",
    "training.material": "training.data",
    "training.meter": "training._logs",
    "training.objective": "training._forward",
    "training.overlap": "training._class_overlap",
    "training.plan": "training._steps",
    "training.preparation": "training._setup",
    "training.randomness": "training._randomness",
    "training.refusals": "training._setup",
    "training.resumption": "training._checkpoint",
    "training.samples": "training._samples",
    "training.schedule": "training._steps",
    "training.scoring": "training.sampler",
    "training.seeds": "training._randomness",
    "training.state": "training._checkpoint",
    "training.terms": "training._terms",
    "training.trained": "training.result",
    "training.validation": "training._validation",
    "training.world": "training._distributed",
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
