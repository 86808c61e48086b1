"""The page of faults names tests that exist, and has a row for every fault."""

import ast
import re
from functools import cache
from pathlib import Path

TESTS = Path(__file__).resolve().parent
PAGE = TESTS.parents[1] / "docs" / "results" / "faults.md"
NAMED = re.compile(r"`([\w./]+\.py)::(\w+)`")
COUNTS = {"A": 9, "D": 14, "F": 20, "M": 22, "N": 6, "P": 9, "Q": 5, "W": 9}
NEVER_GIVEN = {"F10", "F16"}


@cache
def defined_in(file: Path) -> frozenset[str]:
    """Names of the tests in a file; none where there is no such file."""
    if not file.is_file():
        return frozenset()
    tree = ast.parse(file.read_text(encoding="utf-8"))
    names = (node.name for node in tree.body if isinstance(node, ast.FunctionDef))
    return frozenset(name for name in names if name.startswith("test_"))


def rows() -> list[list[str]]:
    """Cells of all tables of the page, without their heads."""
    lines = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if line[:2] == "| "]
    cells = [re.split(r"(?<!\\)\|", line)[1:-1] for line in lines]
    return [[cell.strip() for cell in row] for row in cells if row[0].strip() != "#"]


def test_every_test_that_the_page_names_exists():
    named = NAMED.findall(PAGE.read_text(encoding="utf-8"))
    missing = [f"{file}::{name}" for file, name in named if name not in defined_in(TESTS / file)]
    assert missing == [] and len(named) > 150


def test_every_fault_has_a_row_with_a_test():
    found = rows()
    assert {len(row) for row in found} == {5}
    assert [row[0] for row in found if not NAMED.search(row[3])] == []
    expected = {f"{kind}{i}" for kind, most in COUNTS.items() for i in range(1, most + 1)}
    expected |= {"words"}
    labels = [label for row in found for label in row[0].split(", ")]
    plain = [re.sub(r"(?<=[A-Z])0", "", label) for label in labels]
    assert len(set(plain)) == len(plain)
    assert set(plain) | NEVER_GIVEN == expected
