"""Figures that must be reproduced: intervals, misses, and what is refused."""

import json

import pytest
from arena_samples import record, scores

from gradood.bench import Record, json_text
from gradood.bench._gate import ExpectedFigures, Figure, expected_of, read_expected, write_expected
from gradood.errors import ConfigError


def made(runs, **suite):
    return Record.from_dict(record(runs, **suite))


RECORD = made({"net": scores()})


def written(tmp_path, **changes):
    path = tmp_path / "expected.json"
    path.write_text(json_text(expected_of(RECORD).to_dict() | changes), encoding="utf-8")
    return path


def test_a_record_meets_what_was_made_of_it(tmp_path):
    expected = read_expected(written(tmp_path))
    assert expected == expected_of(RECORD)
    assert len(expected.figures) == 2 * 2 * 2
    assert expected.sizes == {"id": 300, "cifar100": 240, "svhn": 240}
    assert expected.check(RECORD) == []
    for figure in expected.figures:
        row = next(
            r for r in RECORD.runs[0].rows if (r.method, r.ood) == (figure.method, figure.ood)
        )
        # Two of 240 images are more than the margin.
        assert figure.low == pytest.approx(max(0, getattr(row, figure.metric) - 2 / 240), abs=1e-6)
        assert figure.high == pytest.approx(min(1, getattr(row, figure.metric) + 2 / 240), abs=1e-6)


def test_a_figure_outside_names_method_set_metric_interval_and_value():
    figure = Figure(method="msp", ood="svhn", metric="auroc", low=0.98, high=0.99)
    expected = ExpectedFigures(
        format="gradood-expected", version=1, suite="made-up", suite_version=1, figures=(figure,)
    )
    (miss,) = expected.check(RECORD)
    found = next(r for r in RECORD.runs[0].rows if (r.method, r.ood) == ("msp", "svhn")).auroc
    assert str(miss) == f"net: msp on svhn: auroc is {found:.6g}; expected 0.98 to 0.99"
    assert miss.to_dict() == {
        **{"method": "msp", "metric": "auroc", "low": 0.98, "high": 0.99},
        **{"ood": "svhn", "group": None, "run": "net", "found": found},
    }


def test_ends_belong_to_the_interval_and_groups_can_be_expected():
    row = next(r for r in RECORD.runs[0].means if (r.method, r.group) == ("msp", "near"))
    value = row.fpr_ood_at_tpr_id95

    def misses(low, high):
        figure = Figure(
            method="msp", group="near", metric="fpr_ood_at_tpr_id95", low=low, high=high
        )
        return ExpectedFigures(
            format="gradood-expected",
            version=1,
            suite="made-up",
            suite_version=1,
            figures=(figure,),
        ).check(RECORD)

    assert misses(value, value) == misses(value, 1) == []
    assert "the mean over near" in str(misses(value + 1e-9, 1)[0])
    assert len(misses(0, value - 1e-9)) == 1


def test_a_figure_that_is_missing_is_a_miss_in_every_run():
    two = made({"net": scores(), "other": scores(seed=1)})
    figure = Figure(method="knn", ood="svhn", metric="auroc", low=0, high=1)
    expected = ExpectedFigures(
        format="gradood-expected", version=1, suite="made-up", suite_version=1, figures=(figure,)
    )
    assert [str(miss) for miss in expected.check(two)] == [
        f"{run}: knn on svhn: auroc is missing; expected 0 to 1" for run in ("net", "other")
    ]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": "gradood-arena"}, r"format 'gradood-arena', version 1; expected 'gradood-ex"),
        ({"version": 2}, r"version 2; expected 'gradood-expected', 1"),
        ({"figures": []}, r"has no figures; expected at least one"),
        ({"figure": []}, r"no option 'figure'; did you mean 'figures'"),
        (
            {"figures": [{"method": "a", "metric": "auroc", "ood": "s", "low": 1, "hi": 2}]},
            r"no option 'hi'; did you mean 'high'",
        ),
        (
            {"figures": [{"method": "a", "metric": "aurok", "ood": "s", "low": 0, "high": 1}]},
            r"no metric 'aurok'; did you mean 'auroc'",
        ),
        (
            {"figures": [{"method": "a", "metric": "auroc", "ood": "s", "low": 1, "high": 0}]},
            r"low=1.*, high=0.*; expected low ≤ high",
        ),
        (
            {"figures": [{"method": "a", "metric": "auroc", "low": 0, "high": 1}]},
            r"ood=None, group=None; expected one of the two",
        ),
        (
            {"figures": [{"method": "a", "metric": "auroc", "ood": "s", "low": "0", "high": 1}]},
            r"figures.*low.*'0'",
        ),
    ],
)
def test_a_file_that_makes_no_sense_is_refused(tmp_path, changes, message):
    with pytest.raises(ConfigError, match=message):
        read_expected(written(tmp_path, **changes))


def test_a_file_that_is_no_json_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"absent.json' cannot be read"):
        read_expected(tmp_path / "absent.json")
    path = tmp_path / "half.json"
    path.write_text(json.dumps({"format": 1})[:-2], encoding="utf-8")
    with pytest.raises(ConfigError, match=r"half.json' cannot be read .*; expected JSON"):
        read_expected(path)


def test_a_record_of_something_else_is_refused():
    expected = expected_of(RECORD)
    with pytest.raises(ConfigError, match=r"suite 'other', version 1; expected 'made-up', versi"):
        expected.check(made({"net": scores()}, name="other"))
    with pytest.raises(ConfigError, match=r"has 80 images of id; expected 300: run with the same"):
        expected.check(made({"net": scores(n=80)}))
    with pytest.raises(ConfigError, match=r"no run 'net'; choose from other"):
        expected.check(made({"other": scores()}))
    with pytest.raises(ConfigError, match=r"margin=-1"):
        expected_of(RECORD, margin=-1)


def test_another_suite_is_refused_before_a_run():
    expected = expected_of(made({"net": scores()}))
    expected.check_suite("made-up", 1)
    with pytest.raises(ConfigError, match=r"the record is of suite 'made-up', version 2; expected"):
        expected.check_suite("made-up", 2)


def test_expected_figures_are_replaced_as_a_whole(tmp_path, monkeypatch):
    path = tmp_path / "expected.json"
    write_expected(path, expected_of(RECORD))
    before = path.read_bytes()
    assert read_expected(path) == expected_of(RECORD)

    def full(file):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="what was there before is unchanged"):
        write_expected(path, expected_of(RECORD))
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]
