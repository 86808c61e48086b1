"""Comparing detectors: on the demo's digits, on a model and data sets of one's own."""

from gradood.bench.benchmark import Settings, run
from gradood.bench.comparison import Comparison, Sets, compare
from gradood.bench.documents import json_text, plain
from gradood.bench.record import Record
from gradood.bench.selection import Selection, select
from gradood.bench.survey import Survey, check_classes, survey

__all__ = [
    "Comparison",
    "Record",
    "Selection",
    "Sets",
    "Settings",
    "Survey",
    "check_classes",
    "compare",
    "json_text",
    "plain",
    "run",
    "select",
    "survey",
]
