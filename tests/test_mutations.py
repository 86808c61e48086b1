"""Every planted fault is caught by a check that names it."""

import json
import multiprocessing
import os
import subprocess
import sys
from pathlib import Path

import pytest
from mutations import MUTATIONS
from planting import UNTOUCHED

DRIVER = Path(__file__).with_name("planting.py")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        "fork" not in multiprocessing.get_all_start_methods(), reason="needs processes that fork"
    ),
]


@pytest.fixture(scope="module")
def found() -> dict[str, dict]:
    """Fault → which check caught it; one process for all, as importing torch takes longest."""
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, str(DRIVER)], capture_output=True, text=True, env=environment
    )
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    return {line["name"]: line for line in lines}


def test_the_checks_pass_where_no_fault_is_planted(found):
    assert found[UNTOUCHED]["caught_by"] is None, found[UNTOUCHED]["message"]


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.name)
def test_a_planted_fault_is_caught(found, mutation):
    assert found[mutation.name]["caught_by"] is not None, "no check failed"


def test_the_faults_are_many_and_have_names_of_their_own():
    assert len(MUTATIONS) >= 15
    assert len({mutation.name for mutation in MUTATIONS}) == len(MUTATIONS)
