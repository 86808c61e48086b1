import json
from collections.abc import Iterator

import pytest

import gradood
from gradood.bench._demo import one_thread
from gradood.cli import main
from gradood.registry import methods

NAMES = [method.name for method in methods()]


@pytest.fixture(autouse=True)
def single() -> Iterator[None]:
    """A second thread costs more than it brings, on networks this small."""
    with one_thread():
        yield


def refuse(constant):
    pytest.fail(f"bare {constant} in JSON")


def test_demo_as_json(capsys):
    assert main(["demo", "--epochs", "4", "--seed", "1", "--json"]) == 0
    out, err = capsys.readouterr()
    found = json.loads(out, parse_constant=refuse)
    assert [(row["method"], row["ood"]) for row in found["rows"]] == [
        (name, ood) for name in NAMES for ood in ("near", "far")
    ]
    for row in found["rows"]:
        for metric in ("fpr_ood_at_tpr_id95", "fpr_id_at_tpr_ood95", "auroc", "aupr_in"):
            assert 0 <= row[metric] <= 1
    assert found["left_out"] == {}
    assert found["seed"] == 1 and found["epochs"] == 4
    assert found["samples"] == {"fit": 1000, "id": 443, "ood": {"near": 354, "far": 520}}
    assert found["train_accuracy"] > 0.9 and found["id_accuracy"] > 0.9
    assert found["methods"]["line"]["options"]["clip"] == "auto"
    assert found["versions"]["gradood"] == gradood.__version__
    assert "accuracy: " in err and "\x1b" not in err and "\r" not in err
    best = max(row["auroc"] for row in found["rows"])
    assert best > 0.9


def test_demo_as_a_table(capsys):
    assert main(["demo", "--epochs", "1"]) == 0
    out, err = capsys.readouterr()
    lines = out.splitlines()
    assert lines[0].startswith("FPR95 (")
    rows = [line.split() for line in lines if line.startswith("| ")]
    assert [row[1] for row in rows[2:]] == NAMES
    assert len({len(line) for line in lines if line.startswith("| ")}) == 1
    assert "training a small network on 1,000 images" in err
    assert "\x1b" not in out and "\r" not in out + err


def test_ctrl_c_exits_130_without_a_traceback(monkeypatch, capsys):
    def interrupted(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr("gradood.bench._demo.train", interrupted)
    assert main(["demo"]) == 130
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines()[-1] == "error: interrupted"


def test_without_scikit_learn_it_exits_5(monkeypatch, capsys):
    def absent(*, seed):
        raise ModuleNotFoundError("scikit-learn is not installed: pip install 'gradood[demo]'.")

    monkeypatch.setattr("gradood.bench._demo.load_digits", absent)
    assert main(["demo"]) == 5
    assert "pip install 'gradood[demo]'" in capsys.readouterr().err
