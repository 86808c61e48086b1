"""Comparing detectors: on the demo's digits, on networks and data sets of one's own, on suites."""

import warnings
from typing import Any

from gradood._engine.binding import Binding as Survey
from gradood._engine.binding import check_classes
from gradood._engine.binding import plan_detectors as survey
from gradood._io.cache import Cache, default_folder
from gradood._io.json import json_text, plain
from gradood.bench._openood_csv import openood_csv
from gradood.bench._suite_files import load_suite, suites
from gradood.bench.choice import DetectorRanking, choose
from gradood.bench.comparison import Comparison, Sets, compare
from gradood.bench.config import ModelEntry, Settings
from gradood.bench.entries import example_of
from gradood.bench.folder import (
    read_results,
    scores_of,
    write_folder,
    write_openood_csv,
    write_results,
)
from gradood.bench.inventory import find_root, take_inventory
from gradood.bench.method_args import Selection, select
from gradood.bench.record import Record
from gradood.bench.runner import Outcome, run
from gradood.bench.suite import Suite

__all__ = [
    "Cache",
    "Comparison",
    "DetectorRanking",
    "ModelEntry",
    "Outcome",
    "Record",
    "Selection",
    "Sets",
    "Settings",
    "Suite",
    "Survey",
    "check_classes",
    "choose",
    "compare",
    "default_folder",
    "example_of",
    "find_root",
    "json_text",
    "load_suite",
    "openood_csv",
    "plain",
    "read_results",
    "run",
    "scores_of",
    "select",
    "suites",
    "survey",
    "take_inventory",
    "write_folder",
    "write_openood_csv",
    "write_results",
]

_RENAMED = {"ArenaRecord": "Record", "Contender": "ModelEntry"}


def __getattr__(name: str) -> Any:
    """The classes that were renamed, for one release, with a warning."""
    if name not in _RENAMED:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    warnings.warn(
        f"gradood.bench.{name} is now gradood.bench.{_RENAMED[name]}; the old name goes with the "
        "next release.",
        DeprecationWarning,
        stacklevel=2,
    )
    return globals()[_RENAMED[name]]
