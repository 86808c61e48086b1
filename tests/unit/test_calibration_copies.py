"""Copies of one input: within the rounding of the model, by nature of the data, or by sampling."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

import gradood
from gradood import Monitor
from gradood._engine.reproducibility import RowSample
from gradood._engine.rows import jittered
from gradood.artifact import card, check
from gradood.calibration import Promise, calibrate, required
from gradood.calibration._copies import Contents
from gradood.calibration._rule import DecisionRule
from gradood.calibration.results import BatchScores
from gradood.errors import ArtifactError, CalibrationError, ConfigError
from gradood.evidence import content_keys

GENERATOR = torch.Generator().manual_seed(7)
ties = pytest.mark.filterwarnings("ignore::gradood.errors.UninformativeScoreWarning")
PROMISES = [Promise(0.05), Promise(0.2), Promise(0.05, "pac")]


def normal(n: int) -> torch.Tensor:
    return torch.randn(n, 3, 8, 8, generator=GENERATOR)


def net(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(16, 32, 3, padding=1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(32, 10),
    ).eval()


def batch(scores, keys, label=None) -> BatchScores:
    """Scores of one detector, x."""
    scores, keys = torch.as_tensor(scores).double(), torch.as_tensor(keys)
    label = torch.zeros_like(keys) if label is None else label
    return BatchScores({"x": scores}, label, torch.zeros(len(keys), dtype=torch.bool), keys)


def answers(rule, scores, label=None):
    scores = torch.as_tensor(scores).double()
    return rule.results(batch(scores, torch.arange(len(scores)), label))["x"]


# ---------------------------------------------------------------- tolerance


@pytest.mark.parametrize("promise", PROMISES, ids=str)
def test_p_values_and_decisions_are_the_definition_with_a_tolerance(promise, rng):
    scores = torch.from_numpy(np.round(rng.standard_normal(200), 2))
    new = torch.from_numpy(rng.standard_normal(300))
    made = calibrate(scores, promise, tolerance=0.05)
    above = (scores[None] >= new[:, None] - 0.05).sum(1)
    assert made.p_values(new).equal((1 + above).double() / 201)
    assert made.is_ood(new).equal(new - 0.05 > made.threshold)
    exact = calibrate(scores, promise)
    assert made.threshold == exact.threshold
    assert not bool((made.is_ood(new) & ~exact.is_ood(new)).any())
    assert bool((made.p_values(new) >= exact.p_values(new)).all())


@ties
@pytest.mark.parametrize("promise", PROMISES, ids=str)
def test_scores_that_move_within_the_tolerance_keep_the_rate(promise, rng):
    size, tolerance, rates = 200, 1e-6, []
    for _ in range(200):
        true = np.where(rng.random(size) < 0.2, 1.8, rng.standard_normal(size))
        made = calibrate(
            torch.from_numpy(true + tolerance * (rng.random(size) - 0.5)),
            promise,
            tolerance=tolerance,
        )
        new = torch.tensor([1.8 + tolerance / 2], dtype=torch.float64)
        tail = 0.5 * math.erfc((made.threshold + tolerance / 2) / math.sqrt(2))
        rates.append(0.2 * float(made.is_ood(new)) + 0.8 * tail)
    assert np.mean(rates) <= promise.fpr + 1e-3


@ties
@pytest.mark.parametrize("how", ["fisher", "stouffer", "cauchy", "min"])
def test_a_combination_is_decided_by_the_least_that_its_scores_may_be(how, rng):
    size, tolerance = 900, 1e-6
    atom = rng.random(size) < 0.2
    scores = {
        name: torch.from_numpy(
            np.where(atom, 1.8 + tolerance * (rng.random(size) - 0.5), rng.standard_normal(size))
        )
        for name in "ab"
    }
    label, nonfinite = torch.zeros(size, dtype=torch.int64), torch.zeros(size, dtype=torch.bool)
    known = BatchScores(scores, label, nonfinite, torch.arange(size))
    rule = DecisionRule.of(known, Promise(), combine=how, tolerances=dict.fromkeys("ab", tolerance))
    new = torch.tensor([1.8 + tolerance / 2, 1.8 - tolerance / 2, 9.0]).double()
    asked = BatchScores({"a": new, "b": new}, label[:3], nonfinite[:3], torch.arange(3))
    found = rule.results(asked).combined
    assert found is not None
    assert found.is_ood.tolist() == [False, False, True]
    assert bool((found.p_value[:2] >= atom[300:].mean() * 0.5).all())
    assert rule.fusion is not None and found.score.equal(rule.fusion.statistic(asked.scores))


@pytest.mark.parametrize("bad", [-1.0, math.inf, math.nan])
def test_a_tolerance_is_a_finite_number(bad):
    with pytest.raises(ConfigError, match="expected a finite number"):
        calibrate(torch.arange(99.0), Promise(), tolerance=bad)


@ties
@pytest.mark.parametrize("combine", [None, "fisher", "stouffer", "cauchy", "min"])
def test_copies_of_one_image_keep_the_rate_in_batches_of_any_size(combine):
    detectors = ["energy", "gradnorm"] if combine else ["energy"]
    for seed in range(2):
        monitor = Monitor(net(seed), detectors, combine=combine)
        pool = normal(200)
        blank = pool[monitor.score(pool)["energy"].argsort()[194]]

        def draw(n, blank=blank):
            x = normal(n)
            x[torch.rand(n, generator=GENERATOR) < 0.2] = blank
            return x

        monitor.calibrate(list(draw(640).split(64)), fpr=0.05)
        for size in (1, 5, 64):
            copies = monitor.predict(list(blank.repeat(size, 1, 1, 1).split(size)))
            result = copies.combined or copies["energy"]
            assert not bool(result.is_ood.any())
            assert bool((result.p_value > 0.05).all())


def test_the_tolerance_is_measured_and_has_a_floor():
    monitor = Monitor(net(), ["energy", "msp"]).calibrate(list(normal(128).split(64)))
    rule = monitor._session.state.rule
    for made in rule.each.values():
        spread = float(made.scores.quantile(0.95) - made.scores.quantile(0.05))
        assert 0.9e-5 * spread < made.tolerance < 1e-2 * spread


def test_frequent_contents_are_sampled_wherever_they_occur():
    sample, blank = RowSample(), torch.zeros(1, 3, 2, 2)
    parts = [torch.randn(64, 3, 2, 2, generator=GENERATOR) for _ in range(20)]
    for part in parts[10:]:
        part[:3] = blank  # 2.3 % of all rows, none of them among the first
    for part in parts:
        sample.add(part, content_keys(part))
    rows = dict(sample.rows())
    assert len(rows) == 16 and next(iter(rows)) == int(content_keys(blank))
    assert all(row.shape == (1, 3, 2, 2) for row in rows.values())
    assert all(int(content_keys(row)) == key for key, row in rows.items())
    single = RowSample()
    for part in parts:
        for row in part.split(1):
            single.add(row, content_keys(row))
    assert int(content_keys(blank)) in dict(single.rows())


# ---------------------------------------------------------------- copies by sampling or by nature


@pytest.mark.parametrize("promise", [*PROMISES, Promise(0.0125)], ids=str)
def test_fewer_distinct_contents_than_the_promise_needs_are_refused(promise, rng):
    need = required(promise)
    scores, keys = rng.standard_normal(need), np.arange(need)
    DecisionRule.of(batch(np.tile(scores, 3), np.tile(keys, 3)), promise)
    wording = rf"with only {need - 1} distinct contents .* at least {need} distinct ones\. Add 1"
    with pytest.raises(CalibrationError, match=wording):
        DecisionRule.of(batch(np.tile(scores[1:], 3), np.tile(keys[1:], 3)), promise)


@pytest.mark.parametrize("times", [2, 10])
@pytest.mark.parametrize("promise", PROMISES, ids=str)
def test_a_set_repeated_decides_as_the_set(promise, times, rng):
    scores, keys, new = rng.standard_normal(100), np.arange(100), rng.standard_normal(500)
    once = DecisionRule.of(batch(scores, keys), promise)
    again = DecisionRule.of(batch(np.tile(scores, times), np.tile(keys, times)), promise)
    assert once.fewer_copies == () and len(again.fewer_copies) == 1
    one, many = answers(once, new), answers(again, new)
    assert bool((many.p_value >= one.p_value).all())
    assert not bool((many.is_ood & ~one.is_ood).any())
    assert (again.samples, again.contents) == (100 * times, 100)


@ties
def test_copies_in_the_nature_of_the_data_are_not_dropped(rng):
    copied = rng.random(500) < 0.1
    scores = np.where(copied, 9.0, rng.standard_normal(500))
    keys = np.where(copied, 500, np.arange(500))
    result = answers(DecisionRule.of(batch(scores, keys), Promise()), [9.0, 9.1, 1.0])
    assert result.is_ood.tolist() == [False, True, False]
    assert float(result.p_value[0]) == (1 + copied.sum()) / 501


@ties
@pytest.mark.parametrize("share", [0.0, 0.03, 0.2])
@pytest.mark.parametrize("times", [1, 2, 3])
@pytest.mark.parametrize("promise", [Promise(0.05), Promise(0.01, "pac")], ids=str)
def test_the_rate_is_kept_in_both_worlds_and_where_a_set_was_repeated(promise, share, times):
    rng, rates = np.random.default_rng(3), []
    for _ in range(80):
        copied = rng.random(320) < share
        scores = np.where(copied, 1.9, rng.standard_normal(320))
        keys = np.tile(np.where(copied, 320, np.arange(320)), times)
        try:
            rule = DecisionRule.of(batch(np.tile(scores, times), keys), promise)
        except CalibrationError:
            assert share == 0.2 and promise.mode == "pac"
            return
        limit = max(part.each["x"].threshold for part in (rule, *rule.fewer_copies))
        tail = 0.5 * math.erfc(limit / math.sqrt(2))
        rates.append((1 - share) * tail + share * (limit < 1.9))
    found = np.array(rates)
    if promise.mode == "pac":
        assert (found > promise.fpr).mean() <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / 80)
    else:
        assert found.mean() <= 0.05 + 2 * found.std() / math.sqrt(80)


def test_the_smaller_sets_of_samples():
    keys = torch.tensor([5, 5, 5, 5, -3, -3, 8, 8, 8])
    distinct, halved = Contents.of(keys).with_fewer_copies()
    assert sorted(keys[distinct].tolist()) == [-3, 5, 8]
    assert sorted(keys[halved].tolist()) == [-3, 5, 5, 8, 8]
    assert list(Contents.of(torch.arange(5)).with_fewer_copies()) == []
    assert len(list(Contents.of(torch.tensor([1, 1, 2])).with_fewer_copies())) == 1


def test_a_million_rows_with_copies_take_no_time(rng):
    keys = torch.from_numpy(rng.integers(0, 900_000, 1_000_000))
    rule = DecisionRule.of(batch(torch.from_numpy(rng.standard_normal(1_000_000)), keys), Promise())
    assert rule.contents == len(keys.unique()) == rule.fewer_copies[0].samples


def test_selection_bounds_false_discoveries_with_copies(rng):
    shares = []
    for _ in range(100):
        copied = rng.random(300) < 0.1
        scores = np.where(copied, 1.5, rng.standard_normal(300))
        rule = DecisionRule.of(
            batch(scores, np.where(copied, 300, np.arange(300))), Promise(), tolerances={"x": 1e-6}
        )
        known = np.where(rng.random(90) < 0.1, 1.5 + 1e-7, rng.standard_normal(90))
        picked = answers(rule, np.concatenate([known, rng.standard_normal(10) + 5])).select(0.2)
        shares.append(int(picked[:90].sum()) / max(1, int(picked.sum())))
    assert np.mean(shares) <= 0.2 + 2 * np.std(shares) / 10


@pytest.mark.parametrize("combine", [None, "fisher"])
def test_images_repeated_in_a_calibration_are_told_or_decided_as_once(combine):
    monitor = Monitor(net(), ["energy", "gradnorm"], combine=combine)
    few = normal(10 if combine is None else 30)
    with pytest.raises(CalibrationError, match=f"only {len(few)} distinct contents"):
        monitor.calibrate([few] * 9)
    images, new = normal(60), normal(400)
    once = monitor.calibrate(images).predict(new)
    again = monitor.calibrate([images, images]).predict(new)
    for name in once:
        assert not bool((again[name].is_ood & ~once[name].is_ood).any())


# ---------------------------------------------------------------- the record and the card


def saved(tmp_path, monitor):
    path = tmp_path / "d.safetensors"
    monitor.save(path)
    return path, card(check(path))


@pytest.mark.parametrize("combine", [None, "fisher"])
def test_a_calibration_with_copies_is_saved_and_loaded(tmp_path, combine):
    model, x = net(), normal(80)
    monitor = Monitor(model, ["energy", "msp"], combine=combine)
    monitor.calibrate([x, x[:30], x[:1], normal(40)])
    path, text = saved(tmp_path, monitor)
    before, after = monitor.predict(normal(50)), gradood.load(path, model)
    x = normal(50)
    before, after = monitor.predict(x), after.predict(x)
    for name in before:
        assert before[name].p_value.equal(after[name].p_value)
        assert before[name].is_ood.equal(after[name].is_ood)
    if combine:
        assert before.combined.p_value.equal(after.combined.p_value)
    assert "from 151 calibration samples" in text and "have 120 distinct contents" in text
    assert "count as equal" in text and "Rounding is not allowed for" not in text


def test_a_record_of_the_first_release_keeps_its_rule(rng):
    scores, new = (
        torch.from_numpy(rng.standard_normal(300)),
        torch.from_numpy(rng.standard_normal(99)),
    )
    rule = DecisionRule.of(batch(scores, torch.arange(300)), Promise(), tolerances={"x": 0.1})
    plain = json.loads(json.dumps(rule.to_plain()))
    del plain["contents"], plain["fewer_copies"]
    for key in ("tolerance", "infinite"):
        del plain["detectors"]["x"][key]
    old = DecisionRule.from_plain(plain, rule.tensors())
    assert (old.each["x"].tolerance, old.contents) == (0.0, None)
    assert answers(old, new).p_value.equal(calibrate(scores, Promise()).p_values(new))
    again = DecisionRule.from_plain(old.to_plain(), old.tensors())
    assert answers(again, new).p_value.equal(answers(old, new).p_value)


@pytest.mark.parametrize(
    "change",
    [
        lambda plain: plain.update(contents="many"),
        lambda plain: plain.update(fewer_copies={}),
        lambda plain: plain.update(fewer_copies=plain["fewer_copies"] * 3),
        lambda plain: plain.update(fewer_copies=[{}]),
        lambda plain: plain["fewer_copies"][0].update(detectors={}),
        lambda plain: plain["detectors"]["x"].update(tolerance=-1.0),
        lambda plain: plain["detectors"]["x"].update(tolerance="0"),
        lambda plain: plain["detectors"]["x"].update(infinite=3),
        lambda plain: plain.pop("contents"),
    ],
)
def test_a_record_with_copies_that_was_changed_is_refused(change, rng):
    keys = np.minimum(np.arange(100), 90)
    rule = DecisionRule.of(batch(rng.standard_normal(100), keys), Promise())
    plain = json.loads(json.dumps(rule.to_plain()))
    DecisionRule.from_plain(plain, rule.tensors())
    change(plain)
    with pytest.raises(ArtifactError):
        DecisionRule.from_plain(plain, rule.tensors())


def test_rare_classes_are_named_in_the_card_and_told_by_the_result(tmp_path, rng):
    label = torch.tensor([0] * 60 + [1] * 50 + [2] * 5 + [4] * 3)
    rule = DecisionRule.of(batch(rng.standard_normal(118), torch.arange(118), label), Promise())
    asked = torch.tensor([0, 1, 2, 3, 4])
    assert answers(rule, rng.standard_normal(5), asked).class_conditional.tolist() == [False] * 5
    within = DecisionRule.of(
        batch(rng.standard_normal(118), torch.arange(118), label), Promise(), per_class=True
    )
    found = answers(within, rng.standard_normal(5), asked).class_conditional
    # The rare ones are too few even together: class 1 is taken in with them.
    assert found.tolist() == [True, False, False, False, False]
    monitor = Monitor(net(), "energy").calibrate(normal(60))
    session = monitor._session
    session.state = replace(
        session.state, rule=DecisionRule({"energy": within.each["x"]}, contents=118)
    )
    _, text = saved(tmp_path, monitor)
    assert "Not within each class:** classes 1, 2, 4 have too few calibration samples" in text
    assert "Rounding is not allowed for" in text


def test_inputs_without_a_score_are_kept_in_a_calibration(tmp_path):
    class Sometimes(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(12, 4)

        def forward(self, x):
            return self.fc(x) * torch.where(x[:, :1] > 1.9, torch.nan, 1.0)

    torch.manual_seed(0)
    model, x = Sometimes().eval(), torch.randn(2400, 12, generator=GENERATOR)
    lost = float((x[400:, 0] > 1.9).double().mean())
    assert 0.01 < lost < 0.045
    monitor = Monitor(model, "energy")
    monitor.bind(x[x[:, 0] < 1][:8])
    monitor.calibrate(x[:400], fpr=0.1)
    result = monitor.predict(x[400:])
    # Those without a score are within the promise: Beta(40, 361) and binomial, sd 0.017.
    assert lost < float(result.is_ood.double().mean()) < 0.15
    assert bool(result.is_ood[result.score.isinf()].all())
    assert result.is_ood.equal(result.p_value <= 0.1)
    _, text = saved(tmp_path, monitor)
    assert "of them without a finite score" in text
    with pytest.raises(CalibrationError, match=r"have no finite score\. .* always flagged"):
        monitor.calibrate(x[x[:, 0] > 1.2], fpr=0.1)


def test_token_ids_of_two_lengths_are_calibrated():
    class Words(nn.Module):
        def __init__(self):
            super().__init__()
            self.words, self.fc = nn.Embedding(50, 16), nn.Linear(16, 4)

        def forward(self, x):
            return self.fc(self.words(x).mean(1))

    torch.manual_seed(0)
    draws = [torch.randint(0, 50, (40, n), generator=GENERATOR) for n in (6, 9)]
    monitor = Monitor(Words().eval(), "energy").calibrate(draws, fpr=0.1)
    made = monitor._session.state.rule.each["energy"]
    assert made.samples == 80 and 0 < made.tolerance < 1e-3
    sample = RowSample()
    for draw in draws:
        sample.add(draw, content_keys(draw))
    assert len(dict(sample.rows())) == 16


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_jittered_inputs_move_by_one_unit_in_the_last_place_of_the_largest(dtype):
    x = torch.linspace(-4, 2, 60, dtype=dtype).reshape(4, 15)
    state = torch.get_rng_state()
    moved, unit = jittered(x), 4 * torch.finfo(dtype).eps
    assert moved is not None and moved.dtype == dtype
    assert 0 < float((moved - x).abs().max()) <= 2 * unit
    assert moved.equal(jittered(x)) and torch.get_rng_state().equal(state)
    assert jittered(torch.arange(6)) is None
