"""The gate on real images: a small run must give the figures in `tests/expected`.

After a change that is meant to move them, write the file anew: the command is in `BENCH`, with
``--expect tests/expected/resnet20.json`` in place of ``--check``.
"""

import json
from pathlib import Path

import pytest

from gradood.cli import main

EXPECTED = Path(__file__).resolve().parents[2] / "expected" / "resnet20.json"
METHODS = "msp,max-logit,energy,gradnorm,line,knn,mahalanobis,gaia-z,gaia-a"
BENCH = [
    *("bench", "--suite", "cifar10-local", "--model", "resnet20", "--methods", METHODS),
    *("--limit", "200", "--fit-limit", "300", "--first-rows", "--no-costs"),
]


@pytest.fixture
def gate(shared, tmp_path, monkeypatch, capsys):
    """Run the small benchmark against a file; what was read of the network is kept between runs."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    weights = shared / "weights" / "resnet20_cifar10.safetensors"
    places = ["--root", str(shared / "data"), "--weights", str(weights)]

    def run(expected):
        code = main([*BENCH, *places, "--check", str(expected)])
        out, err = capsys.readouterr()
        assert "Traceback" not in err and out.count("gaia-z") >= 1
        return code, err

    return run


@pytest.mark.slow
@pytest.mark.real
def test_the_figures_are_as_expected_and_one_that_is_not_is_named(gate, tmp_path):
    code, err = gate(EXPECTED)
    assert "0 of the figures expected" in err
    assert code == 0
    found = json.loads(EXPECTED.read_text(encoding="utf-8"))
    assert len(found["figures"]) == 9 * 5 * 2
    moved = next(
        f
        for f in found["figures"]
        if (f["method"], f["ood"], f["metric"]) == ("energy", "svhn", "auroc")
    )
    moved |= {"low": moved["low"] + 0.05, "high": min(1.0, moved["high"] + 0.05)}
    (tmp_path / "moved.json").write_text(json.dumps(found), encoding="utf-8")
    code, err = gate(tmp_path / "moved.json")
    assert code == 1
    missed = [line for line in err.splitlines() if line.startswith("missed: ")]
    assert len(missed) == 1
    assert "energy on svhn: auroc is 0." in missed[0]
    assert missed[0].endswith(f"expected {moved['low']:.6g} to {moved['high']:.6g}")
