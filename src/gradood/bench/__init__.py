"""Comparing detectors: on the demo's digits, on networks and data sets of one's own, on suites."""

from gradood.bench.arena import Outcome, run
from gradood.bench.arena_record import ArenaRecord, scores_of, write_folder
from gradood.bench.cache import Cache, default_folder
from gradood.bench.comparison import Comparison, Sets, compare
from gradood.bench.contest import example_of
from gradood.bench.documents import json_text, plain
from gradood.bench.inventory import find_root, take_inventory
from gradood.bench.selection import Selection, select
from gradood.bench.settings import Contender, Settings
from gradood.bench.suite import Suite, load_suite, suites
from gradood.bench.survey import Survey, check_classes, survey

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
