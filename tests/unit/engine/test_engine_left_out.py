"""Detectors that cannot run are left out where that is allowed, with the reason."""

import sys

import pytest
import torch
from torch import nn

import gradood
from gradood import Monitor
from gradood._engine.binding import plan_detectors
from gradood.bench import Sets, compare, select
from gradood.detectors import KNN, MSP, Mahalanobis
from gradood.errors import ConfigError, DataError, TapError, UnknownNameError

X = torch.randn(60, 3, 4, 4, generator=torch.Generator().manual_seed(7))
Y = torch.arange(60) % 3
NAMES = ["gaia-z", "energy", "mahalanobis", "knn"]


def flat():
    """Without normalization layers, which gaia-z reads."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(48, 3)).eval()


@pytest.fixture
def observations(monkeypatch):
    calls = []
    plain = sys.modules["gradood._engine.binding"].observe

    def counted(*args, **kwargs):
        calls.append("observe")
        return plain(*args, **kwargs)

    monkeypatch.setattr("gradood._engine.binding.observe", counted)
    return calls


def test_a_monitor_leaves_out_what_cannot_run_and_says_why(tmp_path, observations):
    with pytest.raises(TapError, match="normalization layers"):
        Monitor(flat(), NAMES).bind(X)
    observations.clear()
    monitor = Monitor(flat(), NAMES, skip_unusable=True)
    assert list(monitor.detectors) == NAMES and monitor.left_out == {}
    monitor.bind(X)
    assert list(monitor.left_out) == ["gaia-z"]
    assert "normalization layers" in monitor.left_out["gaia-z"]
    monitor.fit(list(zip(X.split(20), Y.split(20), strict=True)))
    assert observations == ["observe"]
    assert list(monitor.detectors) == list(monitor.score(X)) == NAMES[1:]
    expected = Monitor(flat(), NAMES[1:]).fit(list(zip(X.split(20), Y.split(20), strict=True)))
    for name, scores in expected.score(X).items():
        assert torch.equal(monitor.score(X)[name], scores)
    monitor.calibrate(torch.randn(99, 3, 4, 4)).save(tmp_path / "m.safetensors")
    again = gradood.load(tmp_path / "m.safetensors", flat())
    assert list(again.predict(X)) == NAMES[1:] and again.left_out == {}


def test_what_refuses_the_fit_data_is_left_out_until_a_fit_that_suits_it():
    monitor = Monitor(flat(), NAMES, skip_unusable=True).fit(X.split(20))
    assert monitor.left_out["mahalanobis"] == (
        "it learns from class labels, and the fit data has none."
    )
    assert list(monitor.score(X)) == ["energy", "knn"]
    monitor.fit([(X, Y)])
    assert list(monitor.left_out) == ["gaia-z"] and list(monitor.score(X)) == NAMES[1:]
    monitor.fit([(X, Y + 1)])
    assert "labels such as 3" in monitor.left_out["mahalanobis"]
    parts = monitor.merge(monitor.accumulate([(X, Y)]), monitor.accumulate([X]))
    assert set(parts.refused) == {"mahalanobis"}
    monitor.finish(parts)
    assert list(monitor.score(X)) == ["energy", "knn"]


def test_detectors_that_cannot_finish_are_left_out():
    monitor = Monitor(flat(), [KNN(k=100), "energy"], skip_unusable=True).fit(X)
    assert "knn" in monitor.left_out and list(monitor.detectors) == ["energy"]


def test_only_those_named_may_be_left_out():
    monitor = Monitor(flat(), NAMES, skip_unusable=["gaia-z"])
    with pytest.raises(DataError, match="mahalanobis cannot be run: it learns from class labels"):
        monitor.fit(X.split(20))
    assert monitor.fit([(X, Y)]).score(X).keys() == set(NAMES[1:])
    with pytest.raises(TapError, match="gaia-z cannot be run: "):
        Monitor(flat(), NAMES, skip_unusable=["knn"]).bind(X)
    with pytest.raises(UnknownNameError, match="did you mean 'knn'"):
        Monitor(flat(), NAMES, skip_unusable=["kn"])


def test_nothing_left_and_nothing_to_combine_are_errors():
    with pytest.raises(ConfigError, match=r"no detector can be run.*gaia-z: "):
        Monitor(flat(), "gaia-z", skip_unusable=True).score(X)
    monitor = Monitor(flat(), ["gaia-z", "energy"], combine="fisher", skip_unusable=True)
    with pytest.raises(ConfigError, match="with one detector"):
        monitor.score(X)
    assert monitor.left_out == {}
    only = Monitor(flat(), [Mahalanobis()], skip_unusable=True)
    with pytest.raises(ConfigError, match=r"no detector can be run.*it learns from class labels"):
        only.fit(X)


def test_a_wrong_option_is_no_reason_to_leave_a_detector_out(monkeypatch):
    def plan(*args):
        raise ConfigError("k=0; expected more.")

    monkeypatch.setattr(KNN, "plan", plan)
    with pytest.raises(ConfigError, match="k=0"):
        Monitor(flat(), ["energy", "knn"], skip_unusable=True).bind(X)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::gradood.errors.GradoodWarning")
def test_the_same_are_left_out_of_monitors_comparisons_and_inspections():
    detectors = select("all", ["knn.k=3"]).detectors
    monitor = Monitor(flat(), dict(detectors), skip_unusable=True)
    monitor.bind(X)
    monitor.fit([(X, Y)])
    sets = Sets(id=X, ood={"noise": -X}, fit=[(X, Y)], fit_labels=Y)
    table = compare(flat(), detectors, sets, X)
    assert table.left_out == monitor.left_out
    assert list(table.detectors) == list(monitor.detectors)
    uses = {use.method: use for use in gradood.inspect(flat(), X, dict(detectors)).uses}
    planned = plan_detectors(monitor.bind(X).network, detectors, X)
    assert {name for name, use in uses.items() if not use.works} == set(planned.left_out)
    assert all(uses[name].notes == (reason,) for name, reason in planned.left_out.items())


def test_leading_rows_without_an_answer_keep_their_place():
    bad = torch.full((3, 3, 4, 4), torch.nan)
    monitor = Monitor(flat(), ["gaia-z", "energy"], skip_unusable=True)
    scores = monitor.score([bad, X[:0], bad[:1], X[:5], bad[:2]])
    assert list(scores) == ["energy"]
    assert scores["energy"].isfinite().tolist() == [*[False] * 4, *[True] * 5, *[False] * 2]
    assert torch.equal(scores["energy"][4:9], Monitor(flat(), "energy").score(X[:5]))


def test_representations_say_what_there_is(tmp_path):
    monitor = Monitor(flat(), ["energy", KNN(k=2)], combine="fisher")
    assert repr(monitor) == (
        "Monitor(Sequential; energy, knn; not fitted; combined by fisher; not calibrated)"
    )
    monitor.fit(X)
    assert "; fitted; " in repr(monitor)
    held_out = torch.randn(120, 3, 4, 4, generator=torch.Generator().manual_seed(8))
    monitor.calibrate(held_out, fpr=0.1)
    assert repr(monitor) == (
        "Monitor(Sequential; energy, knn; fitted; combined by fisher; "
        "a false-alarm rate of at most 10 %, marginal, calibrated on 120 samples)"
    )
    results = monitor.predict(X)
    assert repr(results) == "Results(energy, knn, combined; 60 samples)"
    flagged = int(results["knn"].is_ood.sum())
    assert repr(results["knn"]) == (
        f"Result(60 samples: {flagged} out-of-distribution ({flagged / 0.6:.1f} %))"
    )
    assert repr(monitor.bind(X)) == "Binding(Sequential; energy, knn)"
    table = gradood.evaluate(Monitor(flat(), MSP()), id=X, ood={"a": -X}, level=None)
    assert repr(table) == "Table(msp; a)"
