"""Artifacts to spoil: those of `benchmarks/artifact.py`, which has no package of its own."""

import importlib.util
from pathlib import Path

__all__ = ["SCRIPT", "benchmark", "sample"]

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "artifact.py"

_SPEC = importlib.util.spec_from_file_location("artifact_benchmark", SCRIPT)
assert _SPEC is not None and _SPEC.loader is not None
benchmark = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(benchmark)
sample = benchmark.sample
