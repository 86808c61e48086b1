import json
from collections.abc import Iterator
from dataclasses import asdict

import pytest
from rosters import ON_ANY

import gradood
from gradood.bench._demo import CLASSES, one_thread
from gradood.cli import main
from gradood.data import loader, open_images
from gradood.models._load import load_model

NAMES = ON_ANY


@pytest.fixture(autouse=True)
def single() -> Iterator[None]:
    """A second thread costs more than it brings, on networks this small."""
    with one_thread():
        yield


def refuse(constant):
    pytest.fail(f"bare {constant} in JSON")


@pytest.mark.slow
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
    flagged = found["decisions"]["flagged"]
    assert set(flagged["combined"]) == {"new digits", "near", "far"}
    assert found["decisions"]["calibrated_on"] == 221
    best = max(row["auroc"] for row in found["rows"])
    assert best > 0.9


@pytest.mark.slow
def test_demo_as_a_table(capsys):
    assert main(["demo", "--epochs", "1"]) == 0
    out, err = capsys.readouterr()
    explained, table, decided, rates, ahead = out.split("\n\n")
    assert explained.startswith("FPR95  of the unknown") and "\nAUROC  the chance" in explained
    sets, heads, *rows = [line.split() for line in table.splitlines()]
    assert sets == ["near", "far", "mean"] and heads == ["method", *3 * ["FPR95", "AUROC"]]
    rows = [row[:1] + row[2:] if row[1].startswith("clip") else row for row in rows]
    assert 'line, clip="auto"  ' in table
    assert sorted(row[0].rstrip(",") for row in rows) == sorted(NAMES)
    figures = [[float(cell.rstrip("*")) for cell in row[1:]] for row in rows]
    assert [row[-1] for row in figures] == sorted((row[-1] for row in figures), reverse=True)
    for column in range(6):
        best = (max if column % 2 else min)(row[column] for row in figures)
        marked = [row[column + 1] for row in rows if row[column + 1].endswith("*")]
        assert marked and set(marked) == {f"{best}*"}
    assert "at a promised false-alarm rate of 5 %" in decided
    assert rates.splitlines()[0].split() == ["new", "digits", "near", "far"]
    assert rates.splitlines()[-1].startswith("all, combined by fisher")
    assert ahead.startswith("Next: gradood demo --out demo")
    assert "training a small network on 1,000 images" in err
    assert "\x1b" not in out and "\r" not in out + err


@pytest.mark.slow
def test_what_the_demo_leaves_can_be_gone_on_with(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["demo", "--epochs", "2", "--out", "demo"]) == 0
    out, _ = capsys.readouterr()
    assert "gradood score demo/inbox" in out
    for folder, count in {"train": 1000, "val": 221, "test": 222}.items():
        assert sorted(path.name for path in (tmp_path / "demo" / folder).iterdir()) == [
            str(digit) for digit in range(CLASSES)
        ]
        assert len(list((tmp_path / "demo" / folder).glob("*/*.png"))) == count
    model = load_model("digits_net", tmp_path / "demo" / "weights.safetensors", num_classes=CLASSES)
    images = open_images("demo/test", model.preprocess)
    monitor = gradood.load("demo/detector.safetensors", model.model)
    assert monitor.preprocess == asdict(model.preprocess)
    results = monitor.predict(loader(images))
    flagged = f"{100 * float(results.combined.is_ood.double().mean()):.1f}"
    rates = out.split("\n\n")[3].splitlines()
    assert rates[-1].split()[4:5] == [flagged]  # As the demo said, of the same images.
    sent = {path: path.read_bytes() for path in (tmp_path / "demo" / "inbox").iterdir()}
    assert len(sent) == 40
    mine = tmp_path / "demo" / "mine.txt"
    mine.write_text("mine")
    assert main(["demo", "--epochs", "2", "--out", "demo"]) == 0
    assert mine.read_text() == "mine" and all(p.read_bytes() == b for p, b in sent.items())
    capsys.readouterr()
    assert main(["demo", "--epochs", "3", "--out", "demo"]) == 2
    assert "made with other settings" in capsys.readouterr().err


def test_the_demo_takes_the_place_of_nothing(tmp_path, capsys):
    (tmp_path / "mine.txt").write_text("mine")
    assert main(["demo", "--out", str(tmp_path)]) == 2
    assert "is no demo" in capsys.readouterr().err
    assert main(["demo", "--out", str(tmp_path / "a" / "b")]) == 2
    assert "make it first" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


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
