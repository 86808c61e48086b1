"""The batch scoring benchmark, on few images: the command, bad images, kills and restarts."""

import importlib.util
import os
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "scoring.py"


@pytest.fixture(scope="module")
def benchmark():
    spec = importlib.util.spec_from_file_location("scoring_benchmark", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


def test_the_ten_ways_to_be_bad(benchmark, tmp_path):
    expected = benchmark.make_images(tmp_path, 60, bad=1 / 3)
    assert sorted(expected.values()) == sorted(2 * list(benchmark.WAYS.values()))
    assert (
        len([path for path in tmp_path.rglob("*") if not path.is_dir() or path.is_symlink()]) == 60
    )


@pytest.mark.slow
def test_bad_images_kills_and_restarts(benchmark, tmp_path, monkeypatch, full):
    monkeypatch.setitem(os.environ, "OMP_NUM_THREADS", "1")
    bench = benchmark.Bench(tmp_path, images=300, shard_rows=20, workers=1, batch_size=16)
    bench.prepare(bad=0.04)
    seconds = bench.uninterrupted()
    if full:
        bench.killed(2, seconds)
    else:  # That it ends at once where nothing is left to do is seen in `test_scoring_resume`.
        bench.killed(1, seconds, seed=1, start=seconds / 2)
        assert 0 < bench.found["shards after each kill"][0] < 15
    assert bench.failures == []
    assert len(bench.expected) == 12
    assert bench.found["rows"] == 300
