"""Every planted fault is caught by the unit tests that say so."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from unit_faults import FAULTS, PACKAGE, Fault

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def outcomes() -> dict[str, dict]:
    if not hasattr(os, "fork"):
        pytest.skip("needs fork, so that torch is loaded once")
    done = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("unit_faults.py"))],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found = map(json.loads, done.stdout.splitlines())
    return {outcome["name"]: outcome for outcome in found}


def test_the_tests_pass_without_a_fault(outcomes):
    assert (outcomes[""]["code"], outcomes[""]["failed"]) == (0, [])


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name.replace(" ", "-"))
def test_the_fault_is_caught(fault: Fault, outcomes):
    outcome = outcomes[fault.name]
    assert outcome["code"] == 1, "tests must fail, not break"
    assert set(fault.tests) <= set(outcome["failed"])


def test_every_fault_is_planted_in_one_place_and_named_once():
    assert len({fault.name for fault in FAULTS}) == len(FAULTS) >= 15
    for fault in FAULTS:
        assert (PACKAGE / fault.file).read_text(encoding="utf-8").count(fault.old) == 1, fault.name
        assert fault.old != fault.new and fault.tests
