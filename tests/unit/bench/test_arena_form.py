"""Records that are damaged, as they are refused; sound ones are those of the other tests."""

import copy
import json

import numpy as np
import pytest
from arena_samples import record, scores
from safetensors.numpy import save_file

from gradood.bench import Record, json_text, scores_of
from gradood.cli import main
from gradood.errors import DataError

SOUND = json.loads(json_text(record({"net": scores(n=30, m=30)})))
ABSENT = object()


def damaged(path, value):
    made = copy.deepcopy(SOUND)
    inner = made
    for key in path[:-1]:
        inner = inner[key]
    if value is ABSENT:
        del inner[path[-1]]
    else:
        inner[path[-1]] = value
    return made


def places(value, path=()):
    """Every place, of lists only the first entry."""
    if path:
        yield path
    entries = value.items() if isinstance(value, dict) else ()
    for key, inner in list(enumerate(value))[:1] if isinstance(value, list) else entries:
        yield from places(inner, (*path, key))


def test_what_was_written_is_read():
    assert Record.from_dict(SOUND).to_dict() == SOUND


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("suite",), ABSENT, r"it lacks suite\."),
        (("suite",), [1], r"suite is \[1\]; expected a table\."),
        (("suite", "ood"), {"a": 1}, r"suite\.ood is a table; expected a list that is not empty\."),
        (
            ("suite", "ood", 0, "group"),
            "odd",
            r"suite\.ood\[0\]\.group is 'odd'; expected 'near' or",
        ),
        (("suite", "ood", 0, "name"), "svhn", r"suite\.ood\[1\]\.name is 'svhn' once more"),
        (("suite", "id", "n"), ABSENT, r"suite\.id lacks n\."),
        (("suite", "id", "n"), True, r"suite\.id\.n is True; expected a whole number\."),
        (("runs",), [], r"runs is \[\]; expected a list that is not empty\."),
        (("runs",), SOUND["runs"] * 2, r"runs\[1\]\.run is 'net' once more; expected another\."),
        (
            ("runs", 0, "methods"),
            {},
            r"runs\[0\]\.methods is a table; expected a table that is not",
        ),
        (
            ("runs", 0, "methods", "msp", "options"),
            ABSENT,
            r"runs\[0\]\.methods\.msp lacks options",
        ),
        (("runs", 0, "rows"), None, r"runs\[0\]\.rows is None; expected a list\."),
        (("runs", 0, "rows", 0, "auroc"), ABSENT, r"runs\[0\]\.rows\[0\] lacks auroc\."),
        (("runs", 0, "rows", 0, "auroc"), "nan", r"\.auroc is 'nan'; expected a finite number\."),
        (
            ("runs", 0, "rows", 0, "auroc"),
            float("inf"),
            r"\.auroc is inf; expected a finite number\.",
        ),
        (
            ("runs", 0, "rows", 0, "auroc"),
            94.5,
            r"\.auroc is 94\.5; expected a number from 0 to 1\.",
        ),
        (("runs", 0, "rows", 0, "intervals", "auroc"), [0.9, 0.1], r"the lower one first\."),
        (
            ("runs", 0, "rows", 0, "intervals", "auroc"),
            [0.9],
            r"is \[0\.9\]; expected its two ends",
        ),
        (("runs", 0, "means"), [], r"runs\[0\]\.means lacks 'energy' on 'all'\."),
        (("runs", 0, "cost"), {"msp": {"time_ratio": "fast"}}, r"cost\.msp\.time_ratio is 'fast'"),
        (("comparisons",), [{}], r"comparisons\[0\] lacks run, metric, group"),
    ],
)
def test_what_is_wrong_is_told_with_its_place(path, value, message):
    with pytest.raises(DataError, match=f"the arena record is damaged: .*{message}"):
        Record.from_dict(damaged(path, value))


def test_costs_that_json_has_no_number_for():
    Record.from_dict(damaged(("runs", 0, "cost"), {"msp": {"memory_ratio": "inf"}}))


@pytest.mark.slow
def test_no_damage_is_an_internal_error(tmp_path, capsys):
    for folder in ("sound", "damaged"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "arena.json").write_text(json.dumps(SOUND), encoding="utf-8")
    file = tmp_path / "damaged" / "arena.json"
    kinds = set()
    for path in places(SOUND):
        kind = tuple("method" if key in ("energy", "msp") else key for key in path)
        if kind in kinds:
            continue
        kinds.add(kind)
        for value in (ABSENT, None, "odd", [1], {"a": 1}, -3):
            file.write_text(json.dumps(damaged(path, value)), encoding="utf-8")
            code = main(["compare", str(file.parent), str(tmp_path / "sound"), "--sets"])
            err = capsys.readouterr().err
            assert code in (0, 2), (path, value, err)
            assert code == 0 or str(file) in err or "the records" in err, (path, value, err)
    assert len(kinds) > 60


@pytest.mark.parametrize(
    ("path", "value"),
    [(("runs", 0, "means", 0, "auroc"), "nan"), (("date",), 3), (("suite", "ood"), ["svhn"])],
)
def test_no_page_is_made_of_a_damaged_record(tmp_path, capsys, path, value):
    text = json.dumps(damaged(path, value))
    (tmp_path / "arena.json").write_text(text, encoding="utf-8")
    assert main(["report", str(tmp_path)]) == 2
    assert (
        f"{str(tmp_path / 'arena.json')!r}: the arena record is damaged" in capsys.readouterr().err
    )


@pytest.mark.parametrize(
    ("key", "values"),
    [
        ("net", np.zeros(3)),
        ("net/id/msp", np.zeros((3, 1))),
        ("net/id/msp", np.zeros(3, dtype=np.int64)),
    ],
)
def test_scores_that_are_none_are_refused(tmp_path, key, values):
    save_file({key: values}, tmp_path / "scores.safetensors")
    with pytest.raises(DataError, match=r"scores\.safetensors' holds 'net.*expected scores \(n,\)"):
        scores_of(tmp_path)


def test_parts_of_a_record_still_take_keys_for_one_release():
    made = Record.from_dict(SOUND)
    with pytest.warns(DeprecationWarning, match=r"write \.runs for \['runs'\]"):
        runs = made["runs"]
    assert runs == SOUND["runs"]
    with pytest.warns(DeprecationWarning):
        assert made.suite["checked"] is True


def test_a_record_of_a_later_version_keeps_what_this_one_does_not_know():
    later = copy.deepcopy(SOUND)
    later["weather"] = "fair"
    later["runs"][0]["rows"][0]["humidity"] = 0.5
    assert Record.from_dict(later).to_dict() == later


def test_classes_that_were_renamed_are_there_for_one_release():
    import gradood.bench

    for old, new in (("ArenaRecord", "Record"), ("Contender", "ModelEntry")):
        with pytest.warns(DeprecationWarning, match=f"gradood.bench.{old} is now .*{new}"):
            assert getattr(gradood.bench, old) is getattr(gradood.bench, new)
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        _ = gradood.bench.Nothing
