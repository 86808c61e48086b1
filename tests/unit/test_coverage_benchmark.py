"""The simulation of intervals: its truths are true, and its page says what was found."""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest

from gradood import metrics

FILE = Path(__file__).resolve().parents[2] / "benchmarks" / "coverage.py"


@pytest.fixture(scope="module")
def coverage():
    spec = importlib.util.spec_from_file_location("coverage_benchmark", FILE)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # Dataclasses look their module up.
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


def test_truths_are_those_of_a_large_sample(coverage):
    rng = np.random.default_rng(0)
    for case in coverage.cases():
        a = case.known.rvs(200_000, random_state=rng)
        b = case.unknown.rvs(200_000, random_state=rng)
        truth = case.truth()
        assert metrics.auroc(a, b) == pytest.approx(truth["auroc"], abs=0.005)
        if case.name != "ties: steps of 0.1":  # There 95 % are near the edge of a tie.
            found = metrics.summary(a, b)
            for name in coverage.RATES:
                assert getattr(found, name) == pytest.approx(truth[name], abs=0.01)


def test_a_coverage_is_counted_and_judged(coverage):
    tally = coverage.Tally(0.5)
    for low, high in [(0.4, 0.5), (0.4, 0.49), (0.51, 0.6), (0.45, 0.55)]:
        tally.add(low, high)
    row = tally.row("single", "made up", "auroc", 200)
    assert (row.coverage, row.below, row.repeats) == (0.5, 0.25, 4)
    assert row.width == pytest.approx(0.095) and not row.holds
    assert row.error == pytest.approx(0.25) and not row.broken
    assert coverage.Row("single", "", "auroc", 9, 0.5, 10_000, 0.92, 0, 0).broken
    assert coverage.Row("single", "", "auroc", 9, 0.5, 10_000, 0.97, 0, 0).holds


def test_the_page_has_every_figure(coverage):
    plan = coverage.Plan(
        sizes=(200,), repeats=(60,), joint_sizes=(100,), joint_repeats=(8,), draws=40
    )
    rows = coverage.simulate(plan, lambda line: None)
    assert len(rows) == 8 * 3 + 2 * 6
    single = [row for row in rows if row.what == "single"]
    assert min(row.coverage for row in single) > 0.85
    page = coverage.markdown(rows, plan, "python benchmarks/coverage.py", 60.0)
    assert page.count("\n| ") >= len(rows)
    assert "python benchmarks/coverage.py" in page and "1.0 minutes" in page
