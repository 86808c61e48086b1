"""p-values and decisions of one detector: exact values, ties, extremes, precision, the record."""

import json
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gradood.calibration import Calibration, Promise, calibrate, required
from gradood.errors import (
    ArtifactError,
    CalibrationError,
    ConfigError,
    DataError,
    UninformativeScoreWarning,
)

PROMISES = [Promise(0.05), Promise(0.05, "pac"), Promise(0.3), Promise(0.5, "pac", 0.7)]
levels = st.sampled_from([-2.0, -0.0, 0.0, 1.0, 1.5, 3.0])


def naive_p(scores, new):
    return [(1 + sum(c >= s for c in scores)) / (len(scores) + 1) for s in new]


@pytest.mark.filterwarnings("ignore::gradood.errors.UninformativeScoreWarning")
@given(st.lists(levels, min_size=59, max_size=90), st.lists(levels, max_size=20))
def test_p_values_are_the_definition_under_ties(scores, new):
    calibration = calibrate(torch.tensor(scores, dtype=torch.float64), Promise())
    p = calibration.p_values(torch.tensor(new, dtype=torch.float64))
    assert p.tolist() == naive_p(scores, new)
    assert p.dtype == torch.float64


@pytest.mark.filterwarnings("ignore::gradood.errors.UninformativeScoreWarning")
@pytest.mark.parametrize("promise", PROMISES, ids=str)
@given(st.lists(levels, min_size=60, max_size=90), st.lists(levels, min_size=1, max_size=20))
def test_a_decision_is_a_score_above_the_threshold(promise, scores, new):
    calibration = calibrate(torch.tensor(scores, dtype=torch.float64), promise)
    values = torch.tensor(new, dtype=torch.float64)
    flagged = calibration.is_ood(values)
    assert flagged.dtype == torch.bool
    assert flagged.tolist() == (values > calibration.threshold).tolist()
    assert calibration.threshold in scores
    assert calibration.thresholds == {None: calibration.threshold}
    if promise.mode == "marginal":
        assert flagged.tolist() == (calibration.p_values(values) <= promise.fpr).tolist()


@pytest.mark.filterwarnings("ignore::gradood.errors.UninformativeScoreWarning")
@given(st.lists(levels, min_size=20, max_size=40))
def test_p_values_are_super_uniform_under_any_ties(scores):
    # Each of the n + 1 takes its turn as the new one: exchangeability, in full.
    turns = [calibrate(torch.tensor(scores[:i] + scores[i + 1 :]), Promise(0.1)) for i in range(20)]
    turns += [
        calibrate(torch.tensor(scores[:i] + scores[i + 1 :]), Promise(0.1))
        for i in range(20, len(scores))
    ]
    own = [float(c.p_values(torch.tensor([s]))) for c, s in zip(turns, scores, strict=True)]
    for level in set(own):
        assert sum(p <= level for p in own) <= level * len(own) * (1 + 1e-12)
    flagged = [bool(c.is_ood(torch.tensor([s]))) for c, s in zip(turns, scores, strict=True)]
    assert sum(flagged) <= 0.1 * len(scores)


@pytest.mark.parametrize("promise", PROMISES, ids=str)
def test_extremes_never_read_as_in_distribution(promise, rng):
    scores = torch.from_numpy(rng.standard_normal(500))
    calibration = calibrate(scores, promise)
    extreme = torch.tensor([math.inf, math.nan, -math.nan, 1e300, -math.inf])
    assert calibration.p_values(extreme.double()).tolist() == [*[1 / 501] * 4, 1]
    assert calibration.is_ood(extreme.double()).tolist() == [True] * 4 + [False]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_infinity_is_flagged_even_where_rounding_makes_calibration_scores_infinite(dtype):
    scores = torch.linspace(0, 1, 59, dtype=torch.float64)
    scores[-5:] = 1e300
    calibration = calibrate(scores, Promise())
    new = torch.tensor([math.inf, math.nan], dtype=dtype)
    assert calibration.is_ood(new).tolist() == [True, True]
    assert calibration.p_values(new).tolist() == [1 / 60, 1 / 60]


@pytest.mark.parametrize("promise", PROMISES, ids=str)
def test_too_few_samples_name_the_number_needed(promise):
    need = required(promise)
    calibrate(torch.arange(need), promise)
    wording = rf"{need - 1} calibration samples were given; .* needs at least {need}\. Add 1"
    with pytest.raises(CalibrationError, match=wording):
        calibrate(torch.arange(need - 1.0), promise)
    with pytest.raises(CalibrationError, match=rf"0 calibration .* at least {need}"):
        calibrate(torch.empty(0), promise)


def test_scores_that_are_not_finite_are_the_highest():
    scores = torch.arange(100.0)
    scores[[3, 50]] = torch.tensor([math.nan, math.inf])
    made = calibrate(scores, Promise())
    # The fifth largest, of which two are infinite.
    assert (made.threshold, made.to_plain()["infinite"]) == (97.0, 2)
    new = torch.tensor([math.inf, math.nan, 99.0, 98.0, 97.0])
    assert made.p_values(new).tolist() == [3 / 101, 3 / 101, 3 / 101 + 1 / 101, 5 / 101, 6 / 101]
    assert made.is_ood(new).tolist() == [True, True, True, True, False]
    with pytest.raises(CalibrationError, match="hold −inf"):
        calibrate(-scores, Promise())


@pytest.mark.parametrize("promise", PROMISES, ids=str)
def test_too_many_scores_that_are_not_finite_are_counted(promise, rng):
    scores = torch.from_numpy(rng.standard_normal(500))
    made = calibrate(scores, promise)
    rank = made.to_plain()["groups"][0]["rank"]
    scores[: rank - 1] = math.inf
    kept = calibrate(scores, promise)
    assert math.isfinite(kept.threshold) and bool(kept.is_ood(torch.tensor([math.inf])))
    scores[:rank] = math.inf
    wording = rf"{rank} of 500 .* no finite score\. .* fewer than {rank} .* would not keep"
    with pytest.raises(CalibrationError, match=wording):
        calibrate(scores, promise)


# ---------------------------------------------------------------- ties, precision


@pytest.mark.parametrize("promise", PROMISES, ids=str)
def test_constant_scores_warn_and_flag_nothing_but_what_is_above(promise):
    with pytest.warns(UninformativeScoreWarning, match=r"uninformative scores: 80 of 80"):
        calibration = calibrate(torch.full((80,), 2.5), promise)
    assert calibration.p_values(torch.tensor([2.5, 2.6, 2.4])).tolist() == [1, 1 / 81, 1]
    assert calibration.is_ood(torch.tensor([2.5, 2.6, 2.4])).tolist() == [False, True, False]


def test_scores_that_are_one_within_the_tolerance_name_it():
    scores = torch.linspace(0, 0.03, 80, dtype=torch.float64)
    with pytest.warns(UninformativeScoreWarning, match=r"80 of 80 .* within 0\.05, by which a"):
        calibrate(scores, Promise(), tolerance=0.05)


@pytest.mark.parametrize("size", [100, 1000])
def test_ties_in_the_upper_tail_warn_and_others_do_not(size, rng):
    scores = torch.from_numpy(rng.standard_normal(size))
    with pytest.warns(UninformativeScoreWarning, match="uninformative"):
        calibrate(scores.clamp(max=0.8), Promise())
    for harmless in (scores, scores.clamp(min=0.8), scores.bfloat16()):
        calibrate(harmless, Promise())
        calibrate(harmless, Promise(0.01) if size < 299 else Promise(0.01, "pac"))


@pytest.mark.parametrize("coarse", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("fine_side", ["calibration", "input"])
def test_a_tie_stays_a_tie_when_one_side_was_rounded(coarse, fine_side, rng):
    scores = torch.from_numpy(rng.standard_normal(400))
    fine, rounded = scores, scores.to(coarse)
    known, new = (fine, rounded) if fine_side == "calibration" else (rounded, fine)
    calibration = calibrate(known, Promise())
    both = calibrate(rounded, Promise())
    assert calibration.p_values(new).equal(both.p_values(rounded))
    assert calibration.is_ood(new).equal(both.is_ood(rounded))
    # Unrounded, about half of the ties would have come out as "above".
    assert (calibration.p_values(new) >= both.p_values(rounded.double())).all()
    assert not (known.double() >= new.double()).all()


def test_whole_numbers_views_and_subsets_score_alike(rng):
    scores = torch.from_numpy(rng.integers(0, 50, 300))
    calibration = calibrate(scores, Promise())
    assert calibration.precision == "float64"
    p = calibration.p_values(scores)
    assert calibration.p_values(scores.double()).equal(p)
    assert calibration.p_values(torch.stack([scores, scores], 1)[:, 0]).equal(p)
    assert torch.cat([calibration.p_values(s) for s in scores.split(7)]).equal(p)
    assert calibrate(scores.flip(0), Promise()).p_values(scores).equal(p)
    empty = calibration.p_values(torch.empty(0))
    assert (empty.shape, empty.dtype) == ((0,), torch.float64)
    assert calibration.is_ood(torch.empty(0)).dtype == torch.bool


def test_calibrating_leaves_its_input_alone(rng):
    scores = torch.from_numpy(rng.standard_normal(100)).requires_grad_()
    before = scores.detach().clone()
    calibration = calibrate(scores, Promise())
    assert not calibration.p_values(scores).requires_grad
    assert scores.detach().equal(before)


@pytest.mark.parametrize(
    ("scores", "message"),
    [
        (torch.zeros(99, 1), r"shape \(99, 1\)"),
        (torch.tensor(1.0), r"shape \(\)"),
        (torch.zeros(99, dtype=torch.complex64), "complex64"),
    ],
)
def test_unusable_scores_are_refused(scores, message):
    with pytest.raises(DataError, match=message):
        calibrate(scores, Promise())
    with pytest.raises(DataError, match=message):
        calibrate(torch.arange(99.0), Promise()).is_ood(scores)


# ---------------------------------------------------------------- the promise, simulated


@pytest.mark.parametrize("samples", [59, 93, 200])
def test_pac_violations_are_as_rare_as_promised(samples):
    # Of uniform scores the false-alarm rate is 1 − threshold.
    draws = np.random.default_rng(samples).random((4000, samples))
    promise = Promise(0.05, "pac")
    rates = [1 - calibrate(torch.from_numpy(row), promise).threshold for row in draws]
    share = np.mean(np.array(rates) > 0.05)
    assert share <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / len(draws))
    assert share > 0.005


# ---------------------------------------------------------------- the record


def stored(calibration):
    plain = json.loads(json.dumps(calibration.to_plain(), allow_nan=False))
    return Calibration.from_plain(plain, calibration.tensors())


@pytest.mark.parametrize("promise", PROMISES, ids=str)
@pytest.mark.parametrize("per_class", [False, True])
def test_a_record_gives_the_same_calibration(promise, per_class, rng):
    scores = torch.from_numpy(rng.standard_normal(400)).float()
    predicted = torch.from_numpy(rng.integers(0, 5, 400))
    made = calibrate(scores, promise, predicted=predicted, per_class=per_class)
    read = stored(made)
    new, classes = torch.randn(1000), torch.randint(0, 7, (1000,))
    assert read.p_values(new, classes).equal(made.p_values(new, classes))
    assert read.is_ood(new, classes).equal(made.is_ood(new, classes))
    assert read.thresholds == made.thresholds
    assert read.promise == promise
    assert read.to_plain() == made.to_plain()


@pytest.mark.parametrize(
    "change",
    [
        lambda plain, tensors: plain.pop("promise"),
        lambda plain, tensors: plain["promise"].update(fpr=2),
        lambda plain, tensors: plain["promise"].update(extra=2),
        lambda plain, tensors: plain.update(promise="0.05"),
        lambda plain, tensors: plain.update(promise=None),
        lambda plain, tensors: plain.update(extra=1),
        lambda plain, tensors: plain.update(samples=1),
        lambda plain, tensors: plain.update(per_class=True),
        lambda plain, tensors: plain.update(precision="int8"),
        lambda plain, tensors: plain.update(precision=[]),
        lambda plain, tensors: plain["groups"][0].update(threshold=0.0),
        lambda plain, tensors: plain["groups"][0].update(rank=1),
        lambda plain, tensors: tensors.pop("scores"),
        lambda plain, tensors: tensors.update(classes=torch.zeros(100, dtype=torch.int64)),
        lambda plain, tensors: tensors.update(scores=tensors["scores"].flip(0)),
        lambda plain, tensors: tensors.update(scores=tensors["scores"].float()),
        lambda plain, tensors: tensors.update(scores=tensors["scores"][:5]),
        lambda plain, tensors: tensors.update(scores=tensors["scores"][:, None]),
        lambda plain, tensors: tensors.update(scores=tensors["scores"] * math.nan),
        lambda plain, tensors: tensors.update(scores="many"),
    ],
)
def test_a_record_that_was_changed_is_refused(change, rng):
    made = calibrate(torch.from_numpy(rng.standard_normal(100)), Promise())
    plain, tensors = json.loads(json.dumps(made.to_plain())), made.tensors()
    Calibration.from_plain(plain, tensors)
    change(plain, tensors)
    with pytest.raises(ArtifactError, match=r"calibrate and save again"):
        Calibration.from_plain(plain, tensors)


def test_one_threshold_only_where_there_is_one(rng):
    scores, classes = torch.arange(100.0), torch.arange(100) % 2
    made = calibrate(scores, Promise(), predicted=classes, per_class=True)
    with pytest.raises(ConfigError, match="read `thresholds`"):
        _ = made.threshold
    with pytest.raises(ConfigError, match="predicted=None"):
        made.p_values(scores)
    with pytest.raises(ConfigError, match="predicted=None"):
        calibrate(scores, Promise(), per_class=True)
    for bad in (classes[:5], classes.double(), classes[:, None]):
        with pytest.raises(DataError, match="expected one class number for each of 100"):
            made.is_ood(scores, bad)
