"""Every planted fault is caught by every check that is named for it."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from faults import Check
from mutations import MUTATIONS
from planting import UNTOUCHED

TESTS = Path(__file__).resolve().parent


@pytest.fixture(scope="module")
def planted() -> Iterator[Callable[[str], dict]]:
    """Fault → what its checks said; one process for many, as importing torch takes longest."""
    if not hasattr(os, "fork"):
        pytest.skip("needs processes that fork")
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    environment |= {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    program = [sys.executable, str(TESTS / "mutations.py"), "--serve"]
    pipe = subprocess.PIPE
    with subprocess.Popen(program, stdin=pipe, stdout=pipe, text=True, env=environment) as driver:
        assert driver.stdin is not None and driver.stdout is not None

        def plant(name: str) -> dict:
            print(name, file=driver.stdin, flush=True)
            line = driver.stdout.readline()
            assert line, "the process that plants the faults has ended; its errors are on stderr"
            return json.loads(line)

        yield plant
        driver.stdin.close()


@pytest.mark.slow
def test_the_checks_pass_where_no_fault_is_planted(planted):
    outcome = planted(UNTOUCHED)
    assert (outcome["caught"], outcome["broken"]) == ({}, None)


@pytest.mark.slow
@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.name)
def test_a_planted_fault_is_caught(planted, mutation):
    outcome = planted(mutation.name)
    assert (outcome["missed"], outcome["broken"]) == ([], None)


def test_every_fault_has_a_name_of_its_own_and_a_place():
    """A fault whose text is no longer in the source is an error: change it along."""
    assert len({mutation.name for mutation in MUTATIONS}) == len(MUTATIONS) >= 45
    for mutation in MUTATIONS:
        assert mutation.checks and mutation.changes
        compile(mutation.applied(), mutation.file, "exec")


def test_contract_checks_of_faults_are_rows_of_the_covering_array(monkeypatch):
    """What only the full product has does not run for a change; `--search` finds another row."""
    monkeypatch.syspath_prepend(str(TESTS / "contract"))
    from covering import covering_array

    rows = {c.row for m in MUTATIONS for c in m.checks if isinstance(c, Check) and c.row}
    assert rows - set(covering_array()) == set()
