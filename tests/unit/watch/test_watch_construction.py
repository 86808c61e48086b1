"""The construction of `gradood.Watch`: each claim of ADR 0046 that a computer can check."""

import itertools
import math
from collections import Counter, defaultdict

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate
from scipy.stats import beta

from gradood.calibration import Promise
from gradood.calibration.fitting import calibrated
from gradood.watch._bets import bet_weights, betting_factors, later_capital
from gradood.watch._bounds import tail_bounds
from gradood.watch._cells import Cells, _ranks
from gradood.watch._evidence import Evidence, advance, totals
from gradood.watch._random import TIES, uniform, uniforms
from gradood.watch._reference import NO_CLASS, Reference


def cells_of(scores, ties, tolerance=0.0):
    order = np.argsort(scores, kind="stable")
    return Cells.of(np.asarray(scores, float)[order], np.asarray(ties)[order], tolerance)


def test_given_the_past_the_cell_of_an_item_has_the_odds_of_its_gaps():
    """All orders of 3 calibration scores and 3 items, each as likely: claim 1, exactly."""
    after = defaultdict(Counter)
    for order in itertools.permutations(range(6)):
        cells = cells_of(order[:3], np.zeros(3))
        path = cells.find(np.array(order[3:], float), np.zeros(3)).tolist()
        for length in range(3):
            after[tuple(path[:length])][path[length]] += 1
    sizes = cells_of([0, 1, 2], np.zeros(3)).sizes
    for past, counts in after.items():
        weights = sizes + np.bincount(past, minlength=len(sizes))
        total = sum(counts.values())
        found = [counts[cell] / total for cell in range(len(sizes))]
        assert found == pytest.approx((weights / weights.sum()).tolist(), abs=1e-12)


def test_the_p_value_is_the_place_among_the_gaps():
    calibration = calibrated(torch.arange(5.0), Promise(0.5), None)
    reference = Reference.of(calibration, 0)
    (cells,) = reference.cells.values()
    scores, numbers = np.array([9.0, 9.0, -1.0, 2.5]), np.arange(1, 5)
    p, counts = reference.p_values(scores, np.full(4, -1), numbers, reference.begin())
    noise = uniforms(0, 1, numbers)
    assert cells.sizes.sum() == 6
    # Above all: the first of 6 gaps, then one of 2 among 7; below all: the last of 8.
    assert p[:3].tolist() == pytest.approx([noise[0] / 6, noise[1] * 2 / 7, (7 + noise[2]) / 8])
    assert counts[-1].sum() == 4


@given(st.lists(st.integers(0, 4), min_size=1, max_size=60), st.integers(0, 9))
@settings(max_examples=50, deadline=None)
def test_ties_are_ordered_like_pairs(values, seed):
    ties = uniforms(seed, TIES, np.arange(len(values) + 8))
    cells = cells_of(values, ties[: len(values)])
    order = sorted(zip(values, ties, strict=False), reverse=True)
    for value in (-1.0, 0.0, 1.0, 4.0, 5.0):
        for tie in ties[len(values) :]:
            above = sum((value, tie) > order[rank - 1] for rank in cells.ranks)
            found = cells.find(np.array([value]), np.array([tie]))[0]
            assert found == len(cells.ranks) - above


def test_the_bound_takes_ties_for_less_extreme():
    cells = cells_of([1.0, 1.0, 2.0], np.array([0.1, 0.2, 0.3]))
    assert cells.find_conservative(np.array([2.0, 2.1, 1.0, 0.0, np.inf])).tolist() == [
        1,
        0,
        len(cells) - 1,
        len(cells) - 1,
        0,
    ]


def test_infinite_scores_are_ties_of_one_another():
    cells = cells_of([0.0, np.inf], np.array([0.5, 0.5]))
    assert cells.find(np.array([np.inf, np.inf]), np.array([0.6, 0.4])).tolist() == [0, 1]


def test_scores_within_the_tolerance_are_ties():
    cells = cells_of([0.0, 1.0, 1.0 + 1e-9, 3.0], np.array([0.1, 0.2, 0.9, 0.5]), tolerance=1e-6)
    assert cells.find(np.array([1.0 - 1e-9, 1.0 + 1e-9]), np.array([0.95, 0.95])).tolist() == [1, 1]


@pytest.mark.parametrize("n", [1, 2, 7, 200, 5000])
@pytest.mark.parametrize("risk", [1e-4, 0.005])
def test_bounds_are_quantiles_of_beta(n, risk):
    ranks = _ranks(n)
    expected = beta.ppf(1 - risk, ranks, n + 1 - ranks)
    found = tail_bounds(n, ranks, risk)
    assert found == pytest.approx(expected, rel=1e-7)
    assert (found >= np.minimum(expected * (1 - 1e-12), 1)).all()


@pytest.mark.parametrize("falling", [False, True])
def test_no_bet_gains_on_uniform_p_values(falling):
    breaks = [0.0, 1e-12, 1e-6, 0.002, 0.01, 0.05, 0.2, 0.7, 0.95, 1.0]
    for bet in range(len(bet_weights(falling))):
        mean = sum(
            integrate.quad(lambda p, bet=bet: betting_factors(p, falling)[bet], a, b)[0]
            for a, b in itertools.pairwise(breaks)
        )
        assert mean == pytest.approx(1, abs=1e-4)
        assert mean <= 1 + 1e-7
    assert bet_weights(falling).sum() == pytest.approx(1)


def test_bets_on_rising_scores_never_gain_by_a_larger_p_value():
    p = np.linspace(0, 1, 2001)
    assert (np.diff(betting_factors(p, False), axis=0) <= 1e-15).all()


def test_capital_that_enters_and_is_kept_is_one():
    entered = [later_capital(t - 1) - later_capital(t) for t in range(1, 2000)]
    assert min(entered) > 0
    assert math.fsum(entered) + later_capital(1999) == pytest.approx(1, abs=1e-12)


def test_the_test_is_a_martingale_and_the_detector_grows_by_one():
    """Over a grid of p-values whose mean is that of the uniform law."""
    capital = Evidence.begin(True).capital
    weights, rng = bet_weights(True), np.random.default_rng(0)
    for step in range(1, 6):
        advance(capital, betting_factors(rng.random(), True), step)
    before = totals(capital, weights, 5)
    grid = (np.arange(200_000) + 0.5) / 200_000
    both = np.repeat(capital[:, None], len(grid), 1)
    advance(both, betting_factors(grid, True), 6)
    after = totals(both, weights, 6).mean(1)
    assert after[0] == pytest.approx(before[0], rel=1e-4)
    assert after[1] == pytest.approx(before[1] + 1, rel=1e-4)


def test_uniforms_do_not_depend_on_the_company():
    places = np.arange(1, 1000)
    together = uniforms(3, TIES, places)
    assert together.tolist() == [uniforms(3, TIES, places[i : i + 1])[0] for i in range(999)]
    assert 0 < together.min() < together.max() < 1
    assert abs(together.mean() - 0.5) < 0.03
    assert np.unique(uniforms(4, TIES, places)).size == 999


def test_one_uniform_has_the_bits_of_many():
    places = np.array([0, 1, 2**53, 2**63 - 1, *np.random.default_rng(0).integers(0, 2**62, 500)])
    for seed in (0, 7, 2**64 - 1):
        many = uniforms(seed, TIES, places)
        assert many.tolist() == [uniform(seed, TIES, int(place)) for place in places]


@pytest.mark.parametrize("tolerance", [0.0, 0.3])
def test_the_cell_of_one_score_is_that_of_many(tolerance):
    rng = np.random.default_rng(1)
    scores = np.sort(np.append(rng.integers(0, 20, 300).astype(float), [np.inf] * 9))
    cells = Cells.of(scores, uniforms(0, 3, np.arange(len(scores))), tolerance)
    items = np.array([*rng.integers(-2, 23, 200), *rng.normal(10, 9, 200), np.inf, -np.inf])
    ties = uniforms(0, TIES, np.arange(len(items)))
    one = [cells.find_one(float(s), float(t)) for s, t in zip(items, ties, strict=True)]
    assert one == cells.find(items, ties).tolist()


def test_classes_have_cells_of_their_own():
    calibration = calibrated(
        torch.arange(60.0), Promise(0.1), torch.tensor([0] * 20 + [3] * 40), 0.0
    )
    reference = Reference.of(calibration, 0)
    assert {key: cells.samples for key, cells in reference.cells.items()} == {0: 20, 3: 40}
    classes = reference.classes(np.array([0, 3, 7, -1]), np.arange(1, 5))
    assert classes[:3].tolist() == [0, 3, NO_CLASS]
    assert classes[3] in (0, 3)
