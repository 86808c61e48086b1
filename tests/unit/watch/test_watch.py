"""`gradood.Watch` from results to alarms, files and acknowledgments."""

import pickle
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import gradood
from gradood.errors import (
    ArtifactError,
    CalibrationError,
    ConfigError,
    DataError,
    ModelMismatchError,
    RepeatedContentWarning,
    UninformativeScoreWarning,
    UnknownNameError,
)

GENERATOR = torch.Generator().manual_seed(0)
X = torch.randn(900, 3, 2, 2, generator=GENERATOR)
with torch.random.fork_rng():
    torch.manual_seed(0)
    MODEL = nn.Sequential(nn.Flatten(), nn.Linear(12, 3)).eval()


def calibrated(detectors="max-logit", data=X[:300], **options):
    combine = options.pop("combine", None)
    monitor = gradood.Monitor(MODEL, detectors, combine=combine)
    return monitor.calibrate(data, **options)


@pytest.fixture(scope="module")
def monitor():
    return calibrated()


@pytest.fixture(scope="module")
def fused():
    return calibrated(["max-logit", "msp"], combine="fisher")


def state(watch, path):
    watch.save(path)
    return path.read_bytes()


@pytest.mark.parametrize("mode", ["marginal", "pac"])
def test_like_the_calibration_no_alarm_and_unlike_it_one(monitor, mode):
    watch = gradood.Watch(monitor, mode=mode, rate=1000)
    assert not watch.update(monitor.predict(X[300:])).alarm
    assert (watch.seen, watch.evidence < 10, watch.warning) == (600, True, False)
    scores = monitor.score(X[300:])
    watch = gradood.Watch(monitor, mode=mode, rate=1000)
    watch.update(scores[:100]).update(scores[100:400] + 2 * scores.std())
    assert watch.alarm and watch.warning and watch.direction == "higher"
    assert 80 <= watch.since <= 120
    assert watch.evidence >= watch.level == pytest.approx(100 if mode == "marginal" else 200)


def test_falling_scores_are_told_in_marginal_mode(monitor):
    scores = monitor.score(X[300:])
    watch = gradood.Watch(monitor).update(scores - 2 * scores.std())
    assert watch.alarm and watch.direction == "lower"
    watch = gradood.Watch(monitor, mode="pac").update(scores - 2 * scores.std())
    assert not watch.alarm


@given(st.lists(st.integers(0, 200), max_size=5), st.sampled_from(["marginal", "pac"]))
@settings(max_examples=20, deadline=None)
def test_evidence_has_the_same_bits_however_the_stream_is_cut(tmp_path_factory, cuts, mode):
    monitor, path = calibrated(), tmp_path_factory.mktemp("cut") / "watch.json"
    scores = torch.cat([monitor.predict(X[300:400]).score, monitor.predict(X[300:400] / 2).score])
    whole = gradood.Watch(monitor, mode=mode, rate=50).update(scores)
    parts = gradood.Watch(monitor, mode=mode, rate=50)
    for part in np.split(scores.numpy(), sorted(cuts)):
        parts.update(part)
        parts.save(path)
        parts = gradood.Watch.load(path, monitor)
    assert state(parts, path) == state(whole, path.with_name("whole.json"))


def test_nonfinite_inputs_are_evidence(monitor):
    broken = X[300:340].clone()
    broken[:, 0] = torch.nan
    watch = gradood.Watch(monitor).update(monitor.predict(broken))
    assert watch.alarm and watch.direction == "higher"
    assert gradood.Watch(monitor).update([float("nan")] * 40).alarm


def test_equal_scores_are_no_evidence_where_calibration_scores_are_equal():
    model = nn.Sequential(nn.Flatten(), nn.Linear(12, 3)).eval()
    with torch.no_grad():
        model[1].weight[:, 6:] = 0  # Half of an input tells nothing.
    x = X[:300].clone()
    x.flatten(1)[:, :6] = X[0].flatten()[:6]
    with pytest.warns(UninformativeScoreWarning):
        even = gradood.Monitor(model, "max-logit").calibrate(x)
    with pytest.warns(UninformativeScoreWarning, match="300 of 300"):
        watch = gradood.Watch(even)
    assert watch.update(even.predict(x[:1]).score.repeat(2000)).evidence < 10


# -- which statistic ----------------------------------------------------------------------


def test_the_combination_is_watched_and_one_detector_where_it_is_named(fused):
    assert gradood.Watch(fused).options.statistic == "combined"
    watch = gradood.Watch(fused, detector="msp")
    assert watch.update(fused.predict(X[300:500])).seen == 200
    with pytest.raises(UnknownNameError, match="did you mean 'msp'"):
        gradood.Watch(fused, detector="mps")


def test_several_detectors_without_a_combination_are_refused():
    with pytest.raises(ConfigError, match="2 detectors that are not combined"):
        gradood.Watch(calibrated(["max-logit", "msp"]))


def test_a_monitor_that_promised_nothing_is_refused():
    with pytest.raises(CalibrationError, match="not calibrated"):
        gradood.Watch(gradood.Monitor(MODEL, "msp"))
    with pytest.raises(ConfigError, match="expected a gradood"):
        gradood.Watch(3)


def test_results_of_another_detector_or_calibration_are_refused(monitor, fused):
    watch = gradood.Watch(monitor)
    for other in (calibrated("msp"), calibrated(data=X[:299])):
        with pytest.raises(DataError, match="other p-values"):
            watch.update(other.predict(X[300:]))
    with pytest.raises(DataError, match="'max-logit' is watched"):
        watch.update(calibrated(["msp"]).predict(X[300:]))
    with pytest.raises(DataError, match="other p-values"):
        gradood.Watch(fused).update(fused.predict(X[300:])["msp"])
    assert watch.seen == 0


@pytest.mark.parametrize(
    "scores",
    [
        *("abc", [[1.0]], [1j], {"a": 1}, [1.5, 10**400], [1.0, None]),
        *(torch.eye(3).to_sparse()[0], torch.empty(3, device="meta")),
        np.ma.array([1.0, 2.0], mask=[False, True]),
    ],
    ids=lambda scores: type(scores).__name__,
)
def test_what_is_no_vector_of_scores_is_refused(monitor, scores):
    with pytest.raises(DataError, match="expected one number per item"):
        gradood.Watch(monitor).update(scores)


def test_scores_are_as_exact_in_a_list_as_in_an_array(fused):
    scores = np.tile(fused.predict(X[:300]).combined.score.numpy(), 2)  # Ties of the calibration.
    alike = gradood.Watch(fused).update(scores).evidence
    for same in (scores.tolist(), tuple(scores), scores.astype(">f8"), scores[::-1].copy()[::-1]):
        assert gradood.Watch(fused).update(same).evidence == alike
    assert gradood.Watch(fused).update([2**63]).seen == 1
    assert gradood.Watch(fused).update(torch.ones(2, dtype=torch.bfloat16)).seen == 2


def test_threads_lose_no_item(monitor):
    watch, before = gradood.Watch(monitor), sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(watch.update, [[0.0]] * 400))
    finally:
        sys.setswitchinterval(before)
    assert watch.seen == 400
    assert pickle.loads(pickle.dumps(watch)).seen == 400


def test_what_no_file_can_keep_is_not_taken_in(monitor):
    watch = gradood.Watch(monitor).update([100.0] * 50)
    with pytest.raises(ConfigError, match="half a character"):
        watch.acknowledge("caf\udce9")  # As Python has it from a shell in Latin-1.
    for source in ("\udce9", 5, ""):
        with pytest.raises(ConfigError, match="source="):
            watch.update([1.0], source=source)
    assert (watch.alarm, watch.seen) == (True, 50)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"alpha": 1}, "alpha=1; expected a number between 0 and 1"),
        ({"rate": 10**400}, "expected a number above 1"),
        ({"alpha": "x"}, "alpha='x'; expected a number"),
        ({"rate": 1}, "rate=1; expected a number above 1"),
        ({"mode": "urn"}, "mode='urn'; expected 'marginal' or 'pac'"),
        ({"seed": -1}, "seed=-1; expected a whole number"),
    ],
)
def test_options_out_of_range(monitor, options, said):
    with pytest.raises(ConfigError, match=said):
        gradood.Watch(monitor, **options)


def test_a_guard_and_a_file_are_watched_as_the_monitor_is(tmp_path):
    guard = gradood.guard(MODEL, X[:300], detectors="max-logit")
    guard.save(tmp_path / "guard.safetensors")
    one, two = gradood.Watch(guard), gradood.Watch(tmp_path / "guard.safetensors")
    result = guard.predict(X[300:])
    assert one.update(result).to_dict() == two.update(result).to_dict()


# -- per class, copies, groups ------------------------------------------------------------


def test_per_class_items_are_compared_with_their_class():
    monitor = calibrated(data=X[:600], per_class=True, fpr=0.1)
    watch = gradood.Watch(monitor)
    assert not watch.update(monitor.predict(X[600:])).alarm
    with pytest.raises(ConfigError, match="labels="):
        watch.update([1.0])
    assert watch.update([5.0, 6.0], labels=[99, 99]).to_dict()["passed"] == 2
    assert gradood.Watch(monitor).update(monitor.predict(X[600:] / 50)).alarm


def test_copies_among_calibration_samples_are_watched_by_every_rule(tmp_path):
    data = torch.cat([X[:200], X[:60]])
    for combine in (None, "fisher"):
        names = "max-logit" if combine is None else ["max-logit", "msp"]
        monitor = calibrated(names, data=data, combine=combine)
        watch = gradood.Watch(monitor).update(monitor.predict(X[300:400]))
        assert len(watch._state.tracks) == 2
        watch.save(tmp_path / "watch.json")
        assert gradood.Watch.load(tmp_path / "watch.json", monitor).to_dict() == watch.to_dict()
        if combine:
            with pytest.raises(DataError, match="give all that"):
                watch.update(monitor.predict(X[300:400]).score)


def test_copies_in_a_stream_warn_once_and_groups_count_once(monitor):
    copies = [monitor.predict(x.repeat(16, 1, 1, 1)) for x in X[300:320].split(1)]
    watch = gradood.Watch(monitor)
    with pytest.warns(RepeatedContentWarning, match="Give groups=") as told:
        for result in copies:
            watch.update(result)
    assert len(told) == 1
    watch = gradood.Watch(monitor)
    with warnings.catch_warnings(), pytest.raises(RepeatedContentWarning):
        warnings.simplefilter("error")
        for result in copies:
            before = watch.seen
            watch.update(result)
    assert watch.seen == before > 0  # A warning that is made an error is one.
    watch = gradood.Watch(monitor)
    for number, result in enumerate(copies):
        watch.update(result, groups=[f"request {number}"] * 16)
    single = gradood.Watch(monitor).update(torch.cat([r.score[:1] for r in copies]))
    assert watch.evidence == single.evidence
    assert (watch.seen, watch.to_dict()["steps"]) == (320, 20)


def test_a_group_goes_on_in_the_next_update_and_a_name_used_again_is_told(monitor):
    watch = gradood.Watch(monitor).update([1.0, 2.0], groups=["a", "b"])
    assert watch.update([3.0, 4.0], groups=["b", "c"]).to_dict()["steps"] == 3
    with pytest.warns(RepeatedContentWarning, match="a name of its own"):
        watch.update(np.zeros(200), groups=[1] * 100 + [2] * 100).update(
            [0.0] * 150, groups=[1] * 150
        )


def test_the_item_of_a_group_is_chosen_by_content_whatever_its_place(monitor):
    order = torch.randperm(20, generator=GENERATOR)
    one = gradood.Watch(monitor).update(monitor.predict(X[300:320]), groups=[0] * 20)
    two = gradood.Watch(monitor).update(monitor.predict(X[300:320][order]), groups=[0] * 20)
    assert one.evidence == two.evidence


def test_in_pac_mode_the_bets_of_a_group_are_averaged(monitor):
    one = gradood.Watch(monitor, mode="pac").update([50.0, -50.0], groups=[0, 0])
    high, low = (gradood.Watch(monitor, mode="pac").update([s]).evidence for s in (50.0, -50.0))
    assert one.evidence == pytest.approx((high + low) / 2)


@pytest.mark.parametrize("groups", [["a"], "ab", [1.5, 2.5]])
def test_groups_that_are_no_names(monitor, groups):
    with pytest.raises(DataError, match="groups hold"):
        gradood.Watch(monitor).update([1.0, 2.0], groups=groups)


# -- alarms -------------------------------------------------------------------------------


def test_an_alarm_stays_until_it_is_acknowledged_with_a_reason(monitor, tmp_path):
    watch = gradood.Watch(monitor)
    with pytest.raises(ConfigError, match="no alarm and no warning"):
        watch.acknowledge("nothing")
    watch.update([60.0] * 40)
    watch.save(tmp_path / "watch.json")
    watch = gradood.Watch.load(tmp_path / "watch.json", monitor)
    assert watch.alarm
    with pytest.raises(ConfigError, match="in words"):
        watch.acknowledge(" ")
    raised = ["alarm", *(["warning"] if watch.warning else [])]
    watch.acknowledge("a new camera")
    assert not watch.alarm and watch.evidence == 1
    watch.save(tmp_path / "watch.json")
    watch = gradood.Watch.load(tmp_path / "watch.json", monitor)
    assert [(a["what"], a["reason"]) for a in watch.to_dict()["acknowledged"]] == [
        (what, "a new camera") for what in raised
    ]
    assert watch.to_dict()["acknowledged"][0]["raised"] < 40


def test_a_warning_begins_its_evidence_anew(monitor):
    watch = gradood.Watch(monitor, rate=20).update([60.0] * 60)
    assert watch.warning and watch.warnings > 1
    assert watch.recent_evidence < 20
    assert not watch.acknowledge("seen").warning


def test_foresight_says_how_soon(monitor):
    watch = gradood.Watch(monitor)
    soon = watch.foresight(0.5, horizon=300)
    assert soon.detectable and soon.best_case and soon.found == 1
    assert 2 <= soon.median <= soon.most <= 60
    assert "alarm after" in str(soon)
    never = watch.foresight(0.01, scores=monitor.score(X[300:]), horizon=50)
    assert not never.detectable
    assert "not detectable with n=300" in str(never)
    assert gradood.Watch(monitor, mode="pac").foresight(1.0, horizon=100).detectable
    with pytest.raises(ConfigError, match="share=0"):
        watch.foresight(0)


# -- file ---------------------------------------------------------------------------------


def test_a_file_that_was_cut_or_changed_is_refused(monitor, tmp_path):
    path, other = tmp_path / "watch.json", tmp_path / "other.json"
    raw = state(gradood.Watch(monitor).update(monitor.predict(X[300:400])), path)
    assert b"pickle" not in raw
    for length in [*range(0, len(raw) - 1, 7), len(raw) - 1]:
        other.write_bytes(raw[:length])
        with pytest.raises(ArtifactError, match="refused"):
            gradood.Watch.load(other, monitor)
    for place in range(0, len(raw) - 1, 11):
        other.write_bytes(raw[:place] + bytes([raw[place] ^ 1]) + raw[place + 1 :])
        with pytest.raises(ArtifactError, match="refused"):
            gradood.Watch.load(other, monitor)
    with pytest.raises(DataError, match="no state of a watch"):
        gradood.Watch.load(tmp_path / "none.json", monitor)


def test_a_file_of_another_calibration_is_refused(monitor, tmp_path):
    gradood.Watch(monitor).save(tmp_path / "watch.json")
    for other in (calibrated(data=X[1:301]), calibrated("msp")):
        with pytest.raises(ModelMismatchError, match="another calibration"):
            gradood.Watch.load(tmp_path / "watch.json", other)


def test_a_source_is_taken_in_once(monitor, tmp_path):
    watch = gradood.Watch(monitor).update([1.0, 2.0], source="shard").update([1.0], source="shard")
    watch.save(tmp_path / "watch.json")
    watch = gradood.Watch.load(tmp_path / "watch.json", monitor)
    assert watch.update([1.0], source="shard").seen == 2


def test_an_update_that_fails_leaves_the_watch_as_it_was(monitor, tmp_path):
    watch = gradood.Watch(monitor).update([1.0])
    before = state(watch, tmp_path / "watch.json")
    with pytest.raises(DataError):
        watch.update([1.0, 2.0], groups=["one"])
    assert state(watch, tmp_path / "watch.json") == before


def test_results_carry_content_keys(monitor):
    one, two = monitor.predict(X[:4]), monitor.predict(X[[3, 0]])
    assert two.content_key.tolist() == one.content_key[[3, 0]].tolist()
    assert len(set(one.content_key.tolist())) == 4
