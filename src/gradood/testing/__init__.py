"""The contract suite for detectors, yours included; needs neither pytest nor Hypothesis."""

from gradood.testing.case import Case, Subject
from gradood.testing.checks import Check
from gradood.testing.networks import ContractNetwork, networks
from gradood.testing.suite import Outcome, applicable, check_detector, checks, run_check

__all__ = [
    "Case",
    "Check",
    "ContractNetwork",
    "Outcome",
    "Subject",
    "applicable",
    "check_detector",
    "checks",
    "networks",
    "run_check",
]
