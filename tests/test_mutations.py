"""Every planted fault is caught by every check that is named for it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from mutations import MUTATIONS
from planting import UNTOUCHED

DRIVER = Path(__file__).with_name("mutations.py")


@pytest.fixture(scope="module")
def found() -> dict[str, dict]:
    """Fault → what its checks said; one process for all, as importing torch takes longest."""
    if not hasattr(os, "fork"):
        pytest.skip("needs processes that fork")
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    environment |= {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, str(DRIVER)], capture_output=True, text=True, env=environment
    )
    assert done.returncode == 0, done.stderr[-3000:]
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    return {line["name"]: line for line in lines}


@pytest.mark.slow
def test_the_checks_pass_where_no_fault_is_planted(found):
    assert (found[UNTOUCHED]["caught"], found[UNTOUCHED]["broken"]) == ({}, None)


@pytest.mark.slow
@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.name)
def test_a_planted_fault_is_caught(found, mutation):
    outcome = found[mutation.name]
    assert (outcome["missed"], outcome["broken"]) == ([], None)


def test_every_fault_has_a_name_of_its_own_and_a_place():
    """A fault whose text is no longer in the source is an error: change it along."""
    assert len({mutation.name for mutation in MUTATIONS}) == len(MUTATIONS) >= 45
    for mutation in MUTATIONS:
        assert mutation.checks and mutation.changes
        compile(mutation.applied(), mutation.file, "exec")
