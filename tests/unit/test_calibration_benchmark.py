"""The simulation behind docs/results/calibration.md, with a hundred repeats."""

import importlib.util
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from gradood.calibration import _mondrian as mondrian
from gradood.calibration.guarantee import deciding_rank

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "calibration.py"


@pytest.fixture(scope="module")
def benchmark():
    spec = importlib.util.spec_from_file_location("benchmark_calibration", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


@pytest.mark.slow
def test_every_promise_is_kept_or_refused(benchmark, full):
    plan = benchmark.QUICK if full else replace(benchmark.QUICK, repeats=100)
    rows = benchmark.simulate(plan)
    assert [row for row in rows if not row.holds] == []
    assert len(rows) == 9 * 2 * 2 * 2
    refused = Counter(row.refused for row in rows if row.refused)
    assert refused == {"needs 299": 5, "needs 119": 4, "needs 319": 4}
    page = benchmark.markdown(rows, plan, "a command", 60)
    assert "59 of 59 promises kept, 13 rightly refused" in page
    assert "| constant | 100 | 5 % | 0.000 ± 0.000 % | 0.00 % | 0.00 ± " in page


@pytest.mark.slow
def test_a_threshold_one_rank_too_low_is_seen(benchmark, monkeypatch):
    monkeypatch.setattr(mondrian, "deciding_rank", lambda n, p: deciding_rank(n, p) + 1)
    plan = benchmark.Plan(sizes=(100,), repeats=1000, rank_parts=20, least_pool=5_000)
    broken = {row.mode for row in benchmark.one_detector("normal", 100, plan, 0) if not row.holds}
    assert broken == {"marginal", "pac"}
    combined = [row for row in benchmark.combination("fisher", 100, plan, 0) if not row.holds]
    assert combined


def test_the_rates_that_are_called_exact_are(benchmark, rng):
    for draw, above in benchmark.SINGLE.values():
        scores = draw(rng, 200_000).double()
        for threshold in (*scores[:3].tolist(), benchmark.ATOM, 1.0):
            at = (
                float(torch.tensor(threshold).bfloat16())
                if draw is benchmark.rounded
                else threshold
            )
            assert float((scores > at).double().mean()) == pytest.approx(above(at), abs=0.005)
