"""Comparing detectors: on the demo's digits, on networks and data sets of one's own, on suites."""

from gradood.bench.comparison import Comparison, Sets, compare
from gradood.bench.config import Contender, Settings
from gradood.bench.entries import example_of
from gradood.bench.inventory import find_root, take_inventory
from gradood.bench.method_args import Selection, select
from gradood.bench.record import ArenaRecord, scores_of, write_folder
from gradood.bench.runner import Outcome, run
from gradood.bench.suite import Suite, load_suite, suites
from gradood.engine.compatibility import Survey, check_classes, survey
from gradood.io.cache import Cache, default_folder
from gradood.io.json import json_text, plain

__all__ = [
    "ArenaRecord",
    "Cache",
    "Comparison",
    "Contender",
    "Outcome",
    "Selection",
    "Sets",
    "Settings",
    "Suite",
    "Survey",
    "check_classes",
    "compare",
    "default_folder",
    "example_of",
    "find_root",
    "json_text",
    "load_suite",
    "plain",
    "run",
    "scores_of",
    "select",
    "suites",
    "survey",
    "take_inventory",
    "write_folder",
]
