"""``gradood compare``: what is printed, where, and how it ends."""

import json

import pytest
from arena_samples import record, scores
from safetensors.numpy import save_file

from gradood.bench import json_text
from gradood.cli import main

BEFORE = scores()
AFTER = {
    name: {**methods, "energy": methods["energy"] - (0.15 if name != "id" else 0.0)}
    for name, methods in BEFORE.items()
}


@pytest.fixture
def place(tmp_path, monkeypatch):
    """Two folders of results; in the second, energy got worse."""
    for folder, own in (("a", BEFORE), ("b", AFTER)):
        (tmp_path / folder).mkdir()
        text = json_text(record({"net": own}))
        (tmp_path / folder / "arena.json").write_text(text, encoding="utf-8")
        flat = {f"net/{s}/{m}": v for s, methods in own.items() for m, v in methods.items()}
        save_file(flat, tmp_path / folder / "scores.safetensors")
        (tmp_path / f"{folder}.json").write_text(text, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def compare(place, capsys):
    def run(*words):
        code = main(["compare", *words])
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        return code, out, err

    return run


def test_what_got_worse_is_a_table_and_the_gate_is_asked_for(compare):
    code, out, err = compare("a", "b/arena.json")
    assert code == 0
    lines = out.splitlines()
    assert lines[0].startswith("| network | method |")
    assert all("| energy |" in line and line.endswith("| worse |") for line in lines[2:])
    assert any("mean of all |" in line and " auroc |" in line for line in lines)
    assert "12 figures compared, by pairs of scores: " in err and "0 significantly better" in err
    assert compare("a", "b", "--fail-on-worse")[0] == 1
    assert compare("b", "a", "--fail-on-worse")[0] == 0


def test_without_scores_the_intervals_are_all_there_is(compare):
    code, out, err = compare("a.json", "b.json", "--fail-on-worse")
    assert (code, out) == (0, "nothing changed significantly\n")
    assert "12 figures compared, by intervals: 0 significantly worse" in err


def test_one_json_document(compare):
    code, out, _ = compare("a", "b", "--json", "--sets", "--metric", "auroc", "--fail-on-worse")
    found = json.loads(out)
    assert code == 1
    assert (found["a"], found["b"], found["suite"]) == ("a", "b", "made-up")
    assert found["compared"] == len(found["figures"]) == found["paired"] == 2 * 5
    assert found["worse"] == found["significant"] == 5
    first = found["figures"][0]
    assert set(first) == {
        *("run", "method", "group", "ood", "metric", "before", "after", "difference"),
        *("interval", "p", "p_holm", "paired", "significant", "worse"),
    }


def test_what_only_one_has_and_other_options_are_told(compare, place):
    other = json.loads((place / "b.json").read_text(encoding="utf-8"))
    methods = other["runs"][0]["methods"]
    methods["knn"] = methods.pop("msp")
    for row in [*other["runs"][0]["rows"], *other["runs"][0]["means"]]:
        row["method"] = row["method"].replace("msp", "knn")
    methods["energy"]["options"] = {"temperature": 2.0}
    (place / "b.json").write_text(json.dumps(other), encoding="utf-8")
    code, _, err = compare("a.json", "b.json")
    assert code == 0
    assert "only in the first: net: msp" in err and "only in the second: net: knn" in err
    assert "net: energy has other options: temperature None → 2.0" in err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("a.json", "absent.json"), "no record in 'absent.json'"),
        (("a.json", "half.json"), "'half.json' is no JSON"),
        (("a.json", "list.json"), "'list.json': this is no arena record"),
        (("a.json", "other.json"), "suites with another name, 'made-up' and 'other'"),
        (("a.json", "b.json", "--metric", "auroks"), "no metric 'auroks'; did you mean 'auroc'?"),
        (("a.json",), "missing argument 'B.json'"),
    ],
)
def test_what_cannot_be_compared_is_wrong_usage(compare, place, words, message):
    (place / "half.json").write_text("{", encoding="utf-8")
    (place / "list.json").write_text("[]", encoding="utf-8")
    other = json_text(record({"net": BEFORE}, name="other"))
    (place / "other.json").write_text(other, encoding="utf-8")
    code, out, err = compare(*words)
    assert (code, out) == (2, "")
    assert message in err and len(err.splitlines()) == 1


@pytest.mark.parametrize("label", ["x|y", "two\nlines", "<b>&é", "a\\"])
def test_a_label_of_any_characters_stays_one_cell(compare, place, label):
    for name, own in (("c.json", BEFORE), ("d.json", AFTER)):
        weaker = {
            s: {**m, "energy": 4 * m["energy"] - 3 * BEFORE[s]["energy"]} for s, m in own.items()
        }
        (place / name).write_text(json_text(record({label: weaker})), encoding="utf-8")
    code, out, _ = compare("c.json", "d.json")
    assert code == 0 and "| energy |" in out
    shown = " ".join(label.split()).replace("|", "\\|")
    widths = {len(line) for line in out.splitlines()}
    assert len(widths) == 1 and out.count(f"| {shown} ") == len(out.splitlines()) - 2
