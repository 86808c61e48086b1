"""Several detectors in one: the transform, its tails, the split, and the promise."""

import json
import math

import numpy as np
import pytest
import scipy.special
import torch

from gradood.calibration import Fusion, Promise, calibrate, fuse, required, required_fused
from gradood.calibration.fusion import _split
from gradood.errors import (
    ArtifactError,
    CalibrationError,
    ConfigError,
    DataError,
    UnknownNameError,
)

HOWS = ("fisher", "stouffer", "cauchy", "min")
every = pytest.mark.parametrize("how", HOWS)


@pytest.fixture
def scores(rng):
    """Correlated: a normal, a heavy tail, and one that is tied and rounded."""
    shared = rng.standard_normal(900)
    a, b, c = (shared + 0.7 * rng.standard_normal(900) for _ in range(3))
    b = np.sign(b) * np.abs(b) ** 3
    c = torch.from_numpy(np.where(c > 0.8, 1.25, c)).bfloat16()
    return {"a": torch.from_numpy(a), "b": torch.from_numpy(b), "c": c}


@pytest.fixture
def keys(rng):
    return torch.from_numpy(rng.integers(-(2**63), 2**63 - 1, 900))


def one(values, how, **options):
    """A fusion of one detector that ranks by all of `values`, and how to apply it."""
    values = torch.as_tensor(values, dtype=torch.float64)
    twice = torch.cat([values, values, values])  # a third is the rank part
    keys = torch.arange(len(twice))
    _, ranked, _ = _split({"x": twice}, keys, Promise(0.5), 0)
    assert len(ranked) == len(values)
    placed = twice.clone()
    placed[ranked] = values
    fusion = Fusion.fit({"x": placed}, keys, how, promise=Promise(0.5), **options)
    return lambda new: fusion.statistic({"x": torch.as_tensor(new, dtype=torch.float64)})


# ---------------------------------------------------------------- the transform


@every
def test_at_the_ranked_scores_it_is_the_combination_of_mid_p_values(how):
    values = np.round(np.random.default_rng(0).standard_normal(200), 1)
    p = np.array([(0.5 + (values > v).sum() + 0.5 * (values == v).sum()) / 201 for v in values])
    expected = {
        "fisher": -np.log(p),
        "min": -np.log(p),
        "stouffer": -scipy.special.ndtri(p),
        "cauchy": 1 / np.tan(np.pi * np.minimum(p, 0.95)),
    }[how]
    np.testing.assert_allclose(one(values, how)(values), expected, rtol=1e-12, atol=1e-14)


@every
def test_three_are_combined_as_the_name_says(how, scores, keys):
    fusion = Fusion.fit(scores, keys, how)
    own = [
        Fusion.fit({name: column}, keys, how).statistic({name: column})
        for name, column in scores.items()
    ]
    # Keys are distinct, so that the rank part is the same for one detector as for three.
    expected = torch.stack(own).amax(0) if how == "min" else sum(own)
    torch.testing.assert_close(fusion.statistic(scores), expected, rtol=1e-13, atol=1e-13)


@every
def test_it_rises_strictly_from_the_least_score_up_and_never_falls(how, rng):
    values = rng.standard_normal(100)
    apply = one(values, how)
    grid = np.sort(np.concatenate([values, np.linspace(-4, 40, 3001)]))
    found = apply(grid).diff()
    assert (found >= 0).all()
    start = np.quantile(values, 0.06) if how == "cauchy" else values.min()
    rising = torch.from_numpy((grid[:-1] >= start) & (np.diff(grid) > 1e-9))
    assert (found[rising] > 0).all()


@every
@pytest.mark.parametrize("family", ["normal", "heavy", "exponential", "tied"])
def test_far_scores_do_not_saturate(how, family, rng):
    draw = {
        "normal": rng.standard_normal(300),
        "heavy": rng.standard_t(1, 300),
        "exponential": rng.exponential(1e-6, 300),
        "tied": np.minimum(rng.standard_normal(300), 0.5),
    }[family]
    apply, top, spread = one(draw, how), draw.max(), draw.std()
    far = apply(top + spread * 10.0 ** np.arange(-2, 12))
    assert far.isfinite().all() and (far.diff() > 0).all() and far[0] > apply([top])[0]


def test_the_tail_is_exponential_down_to_p_values_that_have_no_float():
    # Exponential scores: −log p is the score. At 2,000, p = 1e−869.
    values = -np.log((np.arange(600) + 0.5) / 600)
    far = np.array([20.0, 200.0, 690.0, 2000.0])
    np.testing.assert_allclose(one(values, "fisher")(far), far, rtol=0.07)
    np.testing.assert_allclose(one(values, "min")(far), far, rtol=0.07)
    exact = -scipy.special.ndtri_exp(-far)
    np.testing.assert_allclose(one(values, "stouffer")(far), exact, rtol=0.07)
    top, near = values.max(), np.array([0.1, 0.5, 1.0, 2.0])
    cauchy = one(values, "cauchy")
    growth = cauchy(top + near) / cauchy([top])
    np.testing.assert_allclose(growth, np.exp(near), rtol=0.15)


@every
@pytest.mark.parametrize(
    "values",
    [
        np.full(20, 3.0),
        np.zeros(20),
        np.repeat([0.0, 1.0], 10),
        np.r_[np.zeros(19), 1e-300],
        np.r_[np.ones(19), 1 + 2**-52],
        np.r_[-1.7e308, np.zeros(18), 1.7e308],
        np.arange(20) * 5e-324,
    ],
    ids=["constant", "zero", "two", "tiny", "rounding", "huge", "denormal"],
)
def test_degenerate_scores_give_a_finite_nondecreasing_statistic(how, values):
    apply = one(values, how)
    ladder = np.array([1e-310, 1e-200, 1e-16, 1e-3, 1, 3, 3.5, 1e3, 1e100, 1.79e308])
    grid = np.sort(np.r_[values, -ladder, ladder])
    found = apply(grid)
    assert found.isfinite().all() and (found.diff() >= 0).all()
    assert apply([1e3 if values.max() < 1e3 else 1.79e308])[0] > apply([values.min()])[0]


@every
def test_infinities_and_nan(how, scores, keys):
    fusion = Fusion.fit(scores, keys, how)
    usual = dict.fromkeys("abc", torch.zeros(4))
    odd = torch.tensor([math.inf, math.nan, -math.inf, 0])
    for name in "abc":
        found = fusion.statistic({**usual, name: odd})
        assert found[:2].tolist() == [math.inf, math.inf]
        assert found[2:].isfinite().all() and found[2] <= found[3]
    both = {"a": torch.tensor([math.inf]), "b": torch.tensor([-math.inf]), "c": torch.zeros(1)}
    assert fusion.statistic(both).tolist() == [math.inf]


@every
def test_a_row_alone_is_the_same_to_the_last_bit(how, scores, keys):
    fusion = Fusion.fit(scores, keys, how)
    new = {name: 3 * torch.randn(333).double() for name in "abc"}
    whole = fusion.statistic(new)
    for size in (1, 7, 64):
        pieces = [
            fusion.statistic({name: column[i : i + size] for name, column in new.items()})
            for i in range(0, 333, size)
        ]
        assert torch.cat(pieces).equal(whole)
    assert fusion.statistic({name: column.flip(0) for name, column in new.items()}).equal(
        whole.flip(0)
    )
    empty = fusion.statistic({name: column[:0] for name, column in new.items()})
    assert (empty.shape, empty.dtype) == ((0,), torch.float64)


@every
def test_one_detector_that_finds_an_input_usual_does_not_outvote_the_rest(how, scores, keys):
    fusion, calibration = fuse(scores, keys, how, Promise())
    new = {"a": torch.tensor([30.0]), "b": torch.tensor([900.0]), "c": torch.tensor([-1e9])}
    assert calibration.is_ood(fusion.statistic(new)).tolist() == [True]


# ---------------------------------------------------------------- the split


@every
def test_any_order_of_rows_and_detectors_gives_the_same(how, scores, keys):
    fusion, calibration = fuse(scores, keys, how, Promise())
    order = torch.randperm(900)
    shuffled = {name: scores[name][order] for name in "cab"}
    again, twin = fuse(shuffled, keys[order], how, Promise())
    assert again.to_plain() == fusion.to_plain()
    assert all(again.tensors()[name].equal(fusion.tensors()[name]) for name in fusion.tensors())
    assert twin.scores.equal(calibration.scores)


def test_copies_of_an_input_are_split_alike_in_any_order(scores, keys):
    keys[:300] = keys[300:600]
    _, calibration = fuse(scores, keys, "fisher", Promise())
    order = torch.randperm(900)
    _, twin = fuse({n: s[order] for n, s in scores.items()}, keys[order], "fisher", Promise())
    assert twin.scores.equal(calibration.scores)


def test_ranks_and_decision_share_no_row_and_leave_none_out(scores, keys):
    _, ranked, decision = _split(scores, keys, Promise(), 0)
    assert sorted([*ranked.tolist(), *decision.tolist()]) == list(range(900))
    fusion, calibration = fuse(scores, keys, "fisher", Promise())
    assert fusion.samples == len(ranked) == 300
    assert calibration.samples == len(decision) == 600
    changed = {name: column.clone() for name, column in scores.items()}
    for column in changed.values():
        column[decision] += 1
    again, shifted = fuse(changed, keys, "fisher", Promise())
    assert again.tensors()["values.0"].equal(fusion.tensors()["values.0"])
    assert not shifted.scores.equal(calibration.scores)


def test_the_seed_deals_differently_and_torch_keeps_its_own(scores, keys):
    state = torch.get_rng_state()
    splits = [_split(scores, keys, Promise(), seed)[1].tolist() for seed in (0, 0, 1)]
    assert splits[0] == splits[1] != splits[2]
    assert torch.get_rng_state().equal(state)
    assert Fusion.fit(scores, keys, "min", seed=5).to_plain()["seed"] == 5


@pytest.mark.parametrize("promise", [Promise(), Promise(mode="pac"), Promise(0.01, "pac")], ids=str)
def test_the_decision_part_keeps_what_the_promise_needs(promise, rng):
    need = required_fused(promise)
    assert need == required(promise) + 20
    for size in (need, need + 1, need + 50):
        columns = {name: torch.from_numpy(rng.standard_normal(size)) for name in "ab"}
        fusion, calibration = fuse(columns, torch.arange(size), "fisher", promise)
        assert calibration.samples >= required(promise)
        assert fusion.samples >= 20
        assert fusion.samples + calibration.samples == size
    few = {name: column[: need - 3] for name, column in columns.items()}
    wording = rf"{need - 3} calibration samples .* at least {need}: .* Add 3"
    with pytest.raises(CalibrationError, match=wording):
        fuse(few, torch.arange(need - 3), "fisher", promise)


def test_the_promise_per_class(scores, keys):
    predicted = torch.arange(900) % 3
    fusion, made = fuse(scores, keys, "fisher", Promise(), predicted=predicted, per_class=True)
    assert set(made.thresholds) == {0, 1, 2, None}
    _, _, decision = _split(scores, keys, Promise(), 0)
    values = fusion.statistic({name: column[decision] for name, column in scores.items()})
    rates = made.is_ood(values, predicted[decision]).double()
    assert 0.02 < float(rates.mean()) <= 0.05
    with pytest.raises(DataError, match="one class for each of 900 rows"):
        fuse(scores, keys, "fisher", Promise(), predicted=predicted[:5], per_class=True)


# ---------------------------------------------------------------- refusals


def test_a_statistic_is_compared_within_the_class_of_its_own_row(scores, keys):
    """Class 1 lies far above class 0, so that rows in another order would mix the two."""
    predicted = torch.arange(len(keys)) % 2
    apart = {"a": scores["a"] + 100.0 * predicted}
    promise = Promise(0.05)
    fusion, calibration = fuse(apart, keys, "fisher", promise, predicted=predicted, per_class=True)
    _, _, decision = _split(apart, keys, promise, 0)
    statistic = fusion.statistic({"a": apart["a"][decision]})
    for number in (0, 1):
        own = calibrate(statistic[predicted[decision] == number], promise)
        assert calibration.thresholds[number] == own.threshold


@every
def test_scores_that_are_not_finite_are_kept_and_too_many_refused(how, scores, keys):
    scores["b"][[4, 9]] = torch.tensor([math.inf, math.nan], dtype=torch.float64)
    fusion, made = fuse(scores, keys, how, Promise())
    assert bool(fusion.tensors()["knots.1"].isfinite().all())
    assert int(made.scores.isinf().sum()) <= 2 and math.isfinite(made.threshold)
    scores["b"][::5] = math.inf
    with pytest.raises(CalibrationError, match="have no finite score"):
        fuse(scores, keys, how, Promise())
    scores["b"][:] = math.nan
    with pytest.raises(CalibrationError, match="rank 'b' by, 0 have a finite score"):
        fuse(scores, keys, how, Promise())


def test_what_cannot_be_combined_is_refused(scores, keys):
    with pytest.raises(ConfigError, match=r"combine='fischer'; did you mean 'fisher'"):
        Fusion.fit(scores, keys, "fischer")
    with pytest.raises(ConfigError, match="no detector"):
        fuse({}, keys, "fisher", Promise())
    with pytest.raises(DataError, match=r"scores of 'b' have shape \(5,\)"):
        fuse({**scores, "b": scores["b"][:5]}, keys, "fisher", Promise())
    for bad in (keys[:5], keys.double()):
        with pytest.raises(DataError, match=r"content key, int64, of each of 900 rows"):
            fuse(scores, bad, "fisher", Promise())
    fusion = Fusion.fit(scores, keys, "fisher")
    with pytest.raises(UnknownNameError, match="'b' are missing; this fusion is of a, b, c"):
        fusion.statistic({"a": scores["a"]})
    with pytest.raises(DataError, match=r"'c' have shape \(2,\)"):
        fusion.statistic({**scores, "c": torch.zeros(2)})


# ---------------------------------------------------------------- the record


@every
def test_a_record_gives_the_same_fusion_to_the_last_bit(how, scores, keys):
    fusion = Fusion.fit(scores, keys, how, seed=3)
    plain = json.loads(json.dumps(fusion.to_plain(), allow_nan=False))
    read = Fusion.from_plain(plain, fusion.tensors())
    new = {name: 5 * torch.randn(500).double() for name in "abc"}
    assert read.statistic(new).equal(fusion.statistic(new))
    assert read.to_plain() == fusion.to_plain()


@pytest.mark.parametrize(
    "change",
    [
        lambda plain, tensors: plain.pop("how"),
        lambda plain, tensors: plain.update(how="sum"),
        lambda plain, tensors: plain.update(how=["fisher"]),
        lambda plain, tensors: plain.update(names=["a", "a", "c"]),
        lambda plain, tensors: plain.update(names=["a", "b"]),
        lambda plain, tensors: plain.update(scales=[1.0, 1.0]),
        lambda plain, tensors: plain.update(scales=[1.0, 1.0, 0.0]),
        lambda plain, tensors: plain.update(scales=[1.0, 1.0, "1"]),
        lambda plain, tensors: plain.update(scales=None),
        lambda plain, tensors: plain.update(samples="300"),
        lambda plain, tensors: plain.update(extra=1),
        lambda plain, tensors: tensors.pop("knots.1"),
        lambda plain, tensors: tensors.update(more=torch.zeros(1)),
        lambda plain, tensors: tensors.update({"knots.1": tensors["knots.1"].flip(0)}),
        lambda plain, tensors: tensors.update({"values.1": tensors["values.1"].flip(0)}),
        lambda plain, tensors: tensors.update({"values.1": tensors["values.1"][1:]}),
        lambda plain, tensors: tensors.update({"values.1": tensors["values.1"].float()}),
        lambda plain, tensors: tensors.update({"values.1": tensors["values.1"] * math.inf}),
        lambda plain, tensors: tensors.update({"values.1": None}),
    ],
)
def test_a_record_that_was_changed_is_refused(change, scores, keys):
    fusion = Fusion.fit(scores, keys, "fisher")
    plain, tensors = json.loads(json.dumps(fusion.to_plain())), fusion.tensors()
    Fusion.from_plain(plain, tensors)
    change(plain, tensors)
    with pytest.raises(ArtifactError, match=r"calibrate and save again"):
        Fusion.from_plain(plain, tensors)
