"""Results at a notebook: chosen samples, what is kept of the forward, summaries, data frames."""

import inspect
import sys
from dataclasses import fields

import numpy as np
import pytest
import torch
from torch import nn

import gradood
from gradood.calibration._rows import positions
from gradood.errors import ConfigError, DataError, TapError, UnknownNameError
from gradood.monitor._state import Keywords

with torch.random.fork_rng():
    torch.manual_seed(0)
    X = torch.randn(200, 3, 2, 2)
    MODEL = nn.Sequential(nn.Flatten(), nn.Linear(12, 16), nn.ReLU(), nn.Linear(16, 4)).eval()
Y = MODEL(X).argmax(1)
NEW = X[:8].clone()
NEW[2] = torch.nan


@pytest.fixture(scope="module")
def monitor():
    made = gradood.Monitor(MODEL, ["energy", "knn"], combine="fisher")
    return made.fit([(X[:100], Y[:100])]).calibrate([X[100:]])


@pytest.fixture(scope="module")
def results(monitor):
    return monitor.predict(NEW, keep=("logits", "features"))


def same(a, b, rows):
    for field in fields(a):
        one, other = getattr(a, field.name), getattr(b, field.name)
        if field.name == "overrides":
            assert one == other
        elif isinstance(one, torch.Tensor):
            assert torch.equal(one.nan_to_num(7), other[rows].nan_to_num(7)), field.name
        elif one is not None:
            assert one == tuple(other[row] for row in rows)


@pytest.mark.parametrize(
    ("asked", "rows"),
    [
        (slice(1, 4), [1, 2, 3]),
        (slice(None, None, -3), [7, 4, 1]),
        (slice(5, 5), []),
        (3, [3]),
        (-1, [7]),
        ([0, -1, 0], [0, 7, 0]),
        ([], []),
        (torch.tensor([2, 1]), [2, 1]),
        (torch.tensor(6), [6]),
        (np.array([True] + 7 * [False]), [0]),
        (torch.arange(8) > 5, [6, 7]),
        ([False] * 8, []),
    ],
)
def test_samples_are_chosen_by_slice_place_or_mask(results, asked, rows):
    same(results["knn"][asked], results["knn"], rows)
    chosen = results[asked]
    assert isinstance(chosen, gradood.Results) and list(chosen) == ["energy", "knn"]
    same(chosen["energy"], results["energy"], rows)
    same(chosen.combined, results.combined, rows)
    assert len(chosen.status) == len(rows) and torch.equal(chosen.label, results.label[rows])


@pytest.mark.parametrize(
    "asked",
    [
        8,
        -9,
        [0, 8],
        torch.ones(7, dtype=torch.bool),
        torch.ones(8),
        1.5,
        None,
        ["a"],
        NEW,
        object(),
    ],
)
def test_samples_that_are_none_are_refused(results, asked):
    with pytest.raises(DataError, match="asked for"):
        _ = results["knn"][asked]
    with pytest.raises(DataError, match="asked for"):
        _ = results[asked]


def test_the_number_of_samples_cannot_be_mistaken_for_that_of_detectors(results):
    assert len(results) == 2 and results.size == 8 and results
    chosen = results[results.is_ood]
    assert chosen.size == len(results["combined"][results.is_ood]) == int(results.is_ood.sum()) > 0
    assert repr(chosen) == f"Results(energy, knn, combined; {chosen.size} samples)"
    for shown in (chosen, results[:0], results[:]):
        for use in (len, bool):
            with pytest.raises(TypeError, match=r"results\[rows\]\.size"):
                use(shown)
    assert dict(chosen).keys() == {"energy", "knn"} and chosen.get("knn") is chosen["knn"]


def test_the_combined_decision_has_one_name(monitor, results):
    assert results["combined"] is results.combined is results.get("combined")
    assert "combined" in results and list(results) == ["energy", "knn"]
    plain = gradood.Monitor(MODEL, ["energy", "msp"]).calibrate(X).predict(X[:2])
    assert "combined" not in plain and plain.get("combined") is None
    with pytest.raises(UnknownNameError, match="choose from energy, msp"):
        _ = plain["combined"]
    own = gradood.Monitor(MODEL, {"combined": "energy", "msp": "msp"}).calibrate(X).predict(X[:2])
    assert torch.equal(own["combined"].score, gradood.Monitor(MODEL, "energy").score(X[:2]))
    with pytest.raises(ConfigError, match="called 'combined'"):
        gradood.Monitor(MODEL, {"combined": "energy", "msp": "msp"}, combine="fisher")


def test_a_promise_per_class_is_said():
    monitor = gradood.Monitor(MODEL, "energy")
    assert "within each predicted class" in repr(monitor.calibrate(X, per_class=True))
    assert "within" not in repr(monitor.calibrate(X))


def test_a_detector_that_is_none_is_suggested(results):
    with pytest.raises(UnknownNameError, match="did you mean 'energy'"):
        _ = results["enrgy"]
    assert "energy" in results and "enrgy" not in results and results.get("enrgy") is None


def test_rows_of_a_result_can_be_gone_through(results):
    assert [len(row) for row in results["knn"]] == [1] * 8
    assert [row.status for row in results["knn"]] == [(s,) for s in results["knn"].status]


def test_logits_come_with_the_decisions_and_features_if_asked(monitor, results):
    with torch.no_grad():
        logits, features = MODEL(X[:8]).double(), MODEL[:3](X[:8])
    fine = torch.arange(8) != 2
    assert results.logits.dtype == torch.float64
    assert torch.equal(results.logits[fine], logits[fine])
    assert torch.equal(results["knn"].features[fine], features[fine])
    assert bool(results.logits[2].isnan().all()) and bool(results.features[2].isnan().all())
    plain = monitor.predict(NEW)
    assert torch.equal(plain.logits[fine], logits[fine]) and plain.features is None
    assert monitor.predict(NEW, keep=()).logits is None
    assert torch.equal(plain.combined.score, results.combined.score)


def test_inputs_before_the_first_finite_one_have_logits_of_nan():
    monitor = gradood.Monitor(MODEL, "energy").calibrate(X[:50])
    parts = [torch.full((3, 3, 2, 2), torch.inf), X[:0], X[:2]]
    result = monitor.predict(parts)
    assert result.logits.shape == (5, 4) and result.logits.isnan().all(1).tolist() == [
        *(True, True, True, False, False)
    ]
    fresh = gradood.Monitor(MODEL, "energy").calibrate(X[:50])
    assert fresh.predict(X[:0]).logits is None or len(fresh.predict(X[:0]).logits) == 0


def test_what_cannot_be_kept_is_refused(monitor):
    for keep in ("logits", ["scores"]):
        with pytest.raises(ConfigError, match="expected some of"):
            monitor.predict(NEW, keep=keep)
    bent = nn.Sequential(MODEL, nn.Tanh()).eval()
    headless = gradood.Monitor(bent, "energy").calibrate(X[:50])
    assert headless.predict(X[:2]).logits.shape == (2, 4)
    with pytest.raises(TapError):
        headless.predict(X[:2], keep=["features"])


def test_texts_are_short_whatever_the_size(monitor, results):
    assert repr(results["knn"]) == (
        "Result(8 samples: 1 out-of-distribution (12.5 %), 1 without a score)"
    )
    table = results["knn"]._repr_html_()
    assert table.count("<tr>") == 9 and "nonfinite_input" in table
    many = results[torch.zeros(100_000, dtype=torch.int64)]
    for shown in (many, many["knn"]):
        assert len(repr(shown)) < 200 and len(shown._repr_html_()) < 6000
    assert "99,990 more" in many["knn"]._repr_html_()
    assert results[:0]["knn"]._repr_html_() and results[:0]._repr_html_()
    assert "combined" in results._repr_html_()
    assert "Sequential" in repr(monitor) and "<table>" in monitor._repr_html_()


def test_a_name_cannot_leave_the_html():
    odd = gradood.Monitor(MODEL, {"<b>": "energy"}).calibrate(X[:50])
    assert "<b>" not in odd.predict(X[:2])._repr_html_() + odd._repr_html_()


def test_a_summary_has_the_promise_and_the_thresholds(monitor):
    summary = monitor.summary()
    text = str(summary)
    assert (
        "at most 5 %; calibrated on 100 samples: 33 bring the scores to one scale, 67 set" in text
    )
    assert summary.to_dict()["scaling"] == 33 and "4 classes, head '3'" in text
    assert [(d.name, d.state) for d in summary.detectors] == [
        *(("energy", "needs no fit"), ("knn", "fitted"), ("combined", "fisher")),
    ]
    threshold = summary.detectors[1].threshold
    result = monitor.predict(X)["knn"]
    assert torch.equal(result.score > threshold, result.is_ood)
    assert summary.to_dict()["samples"] == 100 and repr(summary) == text
    fresh = gradood.Monitor(MODEL, ["energy", "knn"]).summary()
    assert "not fitted" in str(fresh) and "none yet: monitor.calibrate" in str(fresh)
    each = gradood.Monitor(MODEL, "energy").calibrate(X, per_class=True).summary()
    assert "per class" in str(each) and each.detectors[0].threshold is None


def test_tables_and_inspections_are_shown(monitor):
    table = gradood.evaluate(monitor, id=X[100:], ood={"far": X[:50] * 3}, level=None)
    assert table._repr_html_().count("<tr>") == 4 and "FPR95" in table._repr_html_()
    found = gradood.inspect(MODEL, X[:4], ["energy", "gaia-z"])
    assert repr(found) == "Inspection(4 classes, head 3, 4 layers; 2 of 2 detectors work)"
    assert "<table>" in found._repr_html_() and "gaia-z" in found._repr_html_()


def test_data_frames(monitor, results):
    pytest.importorskip("pandas")
    one = results["knn"].to_pandas()
    assert list(one.columns) == ["score", "p_value", "is_ood", "label", "status"]
    assert one["p_value"].tolist() == results["knn"].p_value.tolist() and len(one) == 8
    many = results.to_pandas()
    assert many.index.names == ["detector", "sample"] and len(many) == 24
    assert many.loc["combined"]["score"].tolist() == results.combined.score.tolist()
    table = gradood.evaluate(monitor, id=X[100:], ood={"far": X[:50] * 3}, level=None)
    frame = table.to_pandas()
    assert frame["auroc"].tolist() == [row.summary.auroc for row in table.rows]
    assert {"method", "ood", "n_id", "n_ood"} <= set(frame.columns)


def test_without_pandas_it_says_what_to_install(results, monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    for shown in (results, results["knn"]):
        with pytest.raises(ModuleNotFoundError, match="pip install pandas"):
            shown.to_pandas()


def test_the_options_that_type_checkers_see_are_those_of_a_monitor():
    options = inspect.signature(gradood.Monitor.__init__).parameters
    assert {*options} == {"self", "model", "detectors", *Keywords.__annotations__}


@pytest.mark.parametrize("rows", [torch.tensor([0, 1, 0], dtype=torch.uint8), (1, 2)])
def test_rows_that_may_mean_two_things_are_refused(rows):
    with pytest.raises(DataError, match="a list of places from 0 to 2, or a mask"):
        positions(rows, 3)
