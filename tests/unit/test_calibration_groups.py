"""Calibration per predicted class: which classes are merged, and that it stays exact."""

import math

import numpy as np
import pytest
import torch

from gradood.calibration import Promise, calibrate, required
from gradood.calibration._mondrian import Groups
from gradood.errors import CalibrationError, UninformativeScoreWarning

FIVE = Promise(0.2)  # needs four samples
PAC = Promise(0.05, "pac")


def labels(**counts):
    """Predicted classes, so many of each: labels(c3=5) is five times 3."""
    return torch.cat([torch.full((n,), int(name[1:])) for name, n in counts.items()])


def sets(groups):
    """The calibration classes that each class is compared with; None: one never seen."""
    keys = [*groups.classes.tolist(), None]
    return {
        key: set(groups.members[place].classes.tolist())
        for key, place in zip(keys, groups.of.tolist(), strict=True)
    }


def thresholding(predicted, promise=FIVE):
    return sets(Groups.for_threshold(torch.arange(len(predicted)).double(), predicted, promise))


def ranking(predicted, promise=FIVE):
    return sets(Groups.for_ranking(torch.arange(len(predicted)).double(), predicted, promise))


def test_frequent_classes_stand_alone_and_rare_ones_together():
    predicted = labels(c0=9, c1=3, c2=5, c7=2)
    expected = {0: {0}, 2: {2}, 1: {1, 7}, 7: {1, 7}, None: {1, 7}}
    assert thresholding(predicted) == ranking(predicted) == expected


def test_too_few_rare_samples_take_in_the_smallest_frequent_class():
    predicted = labels(c0=9, c1=3, c2=5, c3=6)
    rest = {1, 2}
    assert thresholding(predicted) == {0: {0}, 1: rest, 2: rest, 3: {3}, None: rest}
    # Unseen classes need company even where no class is rare.
    assert thresholding(labels(c0=9, c2=5)) == {0: {0}, 2: {2}, None: {2}}
    assert ranking(labels(c0=9, c2=5)) == {0: {0}, 2: {2}, None: {2}}
    assert thresholding(labels(c0=2, c1=2)) == {key: {0, 1} for key in (0, 1, None)}
    assert ranking(labels(c0=2, c1=2)) == {key: {0, 1} for key in (0, 1, None)}


def test_the_input_counts_as_one_of_its_class_when_ranks_are_taken():
    # With one of class 1, both have four of five; with one of class 0 class 1 is rare beside it.
    assert ranking(labels(c0=4, c1=3)) == {0: {0, 1}, 1: {0, 1}, None: {0, 1}}
    assert ranking(labels(c0=4, c1=4)) == {0: {0, 1}, 1: {0, 1}, None: {0, 1}}
    assert ranking(labels(c0=4, c1=4, c2=4)) == {**{i: {i} for i in range(3)}, None: {0, 1, 2}}


@pytest.mark.parametrize("promise", [FIVE, Promise(0.2, "pac")])
def test_every_group_has_what_the_promise_needs(promise, rng):
    need = required(promise)
    for _ in range(200):
        counts = rng.integers(1, 2 * need, rng.integers(1, 7))
        predicted = torch.from_numpy(np.repeat(rng.permutation(20)[: len(counts)], counts))
        scores = torch.from_numpy(rng.standard_normal(len(predicted)))
        if len(scores) < need:
            with pytest.raises(CalibrationError, match=f"at least {need}"):
                calibrate(scores, promise, predicted=predicted, per_class=True)
            continue
        ordered, order = scores.sort()
        for make in (Groups.for_ranking, Groups.for_threshold):
            groups = make(ordered, predicted[order], promise)
            assert all(len(g.scores) >= need and g.rank > 0 for g in groups.members)
            assert all(g.scores.equal(g.scores.sort().values) for g in groups.members)
        partition = groups.members
        assert sum(len(g.scores) for g in partition) == len(scores)


def test_p_values_are_the_definition_within_groups(rng):
    predicted = torch.from_numpy(rng.choice([0, 1, 2, 5], 300, p=[0.5, 0.4, 0.08, 0.02]))
    scores = torch.from_numpy(rng.standard_normal(300)) + predicted
    made = calibrate(scores, Promise(), predicted=predicted, per_class=True)
    new = torch.from_numpy(rng.integers(-3, 9, 500))
    values = torch.from_numpy(rng.standard_normal(500)) + new
    groups = ranking(predicted, Promise())
    p = made.p_values(values, new).tolist()
    for value, own, found in zip(values.tolist(), new.tolist(), p, strict=True):
        members = groups.get(own, groups[None])
        mine = [s for s, c in zip(scores.tolist(), predicted.tolist(), strict=True) if c in members]
        assert found == (1 + sum(s >= value for s in mine)) / (len(mine) + 1)
    assert made.is_ood(values, new).tolist() == [x <= 0.05 for x in p]
    limits = made.thresholds
    expected = [v > limits.get(c, limits[None]) for v, c in zip(values, new.tolist(), strict=True)]
    assert made.is_ood(values, new).tolist() == [bool(x) for x in expected]


def turns(scores, predicted, make):
    """For each sample, taken in turn as the input: its group, and its p-value there."""
    found = []
    for own in range(len(scores)):
        others = np.arange(len(scores)) != own
        ordered, order = scores[others].sort()
        groups = make(ordered, predicted[others][order], FIVE)
        group = groups.members[int(groups.rows(predicted[[own]]))]
        p = (1 + int((group.scores >= scores[own]).sum())) / (len(group.scores) + 1)
        found.append((frozenset([*group.classes.tolist(), int(predicted[own])]), p))
    return found


def excess(scores, predicted, make):
    """By how much the p-values of some group, over all turns, are not super-uniform."""
    found = turns(scores, predicted, make)
    worst = 0.0
    for group in {group for group, _ in found}:
        p = [value for other, value in found if other == group]
        worst = max([worst, *(sum(x <= level for x in p) - level * len(p) for level in p)])
    return worst


def test_groups_formed_with_the_input_are_exact_and_without_it_are_not():
    # All of exchangeability: given the samples, each is as likely to be the input.
    rng = np.random.default_rng(3)
    naive = []
    for _ in range(150):
        predicted = torch.from_numpy(rng.choice(4, rng.integers(8, 24), p=[0.4, 0.3, 0.2, 0.1]))
        scores = torch.from_numpy(rng.integers(0, 9, len(predicted)) + 3.0 * predicted.numpy())
        assert excess(scores, predicted, Groups.for_ranking) < 1e-9
        naive.append(excess(scores, predicted, Groups.for_threshold))
    assert max(naive) > 0.5


def test_pac_holds_for_a_merged_group_in_the_shares_of_its_classes():
    rng = np.random.default_rng(1)
    counts = np.array([50, 20, 5, 300])
    predicted = torch.from_numpy(np.repeat(np.arange(4), counts))
    # Of very different scores: class c is uniform on [c / 2, c / 2 + 1].
    shift = predicted.double() / 2
    violations, alone = [], []
    for _ in range(2000):
        scores = torch.from_numpy(rng.random(len(predicted))) + shift
        made = calibrate(scores, PAC, predicted=predicted, per_class=True)
        limits = made.thresholds
        assert limits[0] == limits[1] == limits[2] == limits[None] != limits[3]
        rates = np.clip(np.arange(3) / 2 + 1 - limits[0], 0, 1)
        violations.append((rates * counts[:3]).sum() / counts[:3].sum() > 0.05)
        alone.append(2.5 - limits[3] > 0.05)
    limit = 0.05 + 3 * math.sqrt(0.05 * 0.95 / 2000)
    assert np.mean(violations) <= limit
    assert 0.01 < np.mean(alone) <= limit


def test_uninformative_groups_are_named():
    scores = torch.cat([torch.arange(100.0), torch.zeros(100)])
    predicted = labels(c0=100, c1=100)
    with pytest.warns(UninformativeScoreWarning, match=r"in 1 of 2 groups, .* 100 of 100"):
        calibrate(scores, PAC, predicted=predicted, per_class=True)


def test_many_classes_take_no_time(rng):
    predicted = torch.from_numpy(rng.integers(0, 1000, 50_000))
    scores = torch.from_numpy(rng.standard_normal(50_000))
    made = calibrate(scores, Promise(0.02), predicted=predicted, per_class=True)
    assert len(made.thresholds) == 1001
    new = torch.from_numpy(rng.standard_normal(100_000))
    rate = made.is_ood(new, torch.from_numpy(rng.integers(0, 1000, 100_000))).double().mean()
    assert 0.005 < float(rate) <= 0.0215
