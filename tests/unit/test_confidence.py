"""Intervals keep a width where the data cannot give one, and say what is out of range."""

import math

import numpy as np
import pytest

from gradood import metrics
from gradood.errors import ConfigError


def naive_lower(area, n, m, z):
    """The score interval of Newcombe (method 5) by a fine grid."""
    grid = np.linspace(0, area, 200_001)
    half = (n + m) / 2 - 1
    spread = 1 + half * (1 - grid) / (2 - grid) + half * grid / (1 + grid)
    inside = area - grid <= z * np.sqrt(grid * (1 - grid) * spread / (n * m)) + 1e-12
    inside[0] = False
    return grid[np.argmax(inside)]


def naive_rate(positive, negative, z=1.959964):
    """All shares g for which some threshold is not too far off, by a fine grid.

    The higher, the more positive: thresholds go down until 95 % of the positives are kept.
    """
    grid = np.linspace(0, 1, 20_001)[1:-1]
    n, m = len(positive), len(negative)
    thresholds = sorted(set(positive), reverse=True)
    kept = [sum(p >= t for p in positive) for t in thresholds]
    chosen = next(i for i, k in enumerate(kept) if 100 * k >= 95 * n)
    held = np.zeros(grid.size, dtype=bool)
    for i, t in enumerate(thresholds):
        before = kept[i - 1] if i else 0
        ranks = max(before + 1 - 0.95 * n, 0.95 * n - (kept[i] - 1), 0) if i != chosen else 0
        share = sum(x >= t for x in negative) / m
        far = ranks**2 / (0.0475 * n) + m * (share - grid) ** 2 / (grid * (1 - grid))
        held |= far <= z * z
    return grid[held][0], grid[held][-1]


@pytest.mark.parametrize("decimals", [0, 1, 6])
@pytest.mark.parametrize(("n", "m"), [(200, 90), (37, 150), (8, 5)])
def test_rates_are_those_no_test_of_threshold_and_share_would_refuse(n, m, decimals):
    rng = np.random.default_rng(n)
    a, b = rng.normal(0, 1, n).round(decimals), rng.normal(1.5, 1.5, m).round(decimals)
    found = metrics.intervals(a, b, draws=1)
    kept = found["fpr_ood_at_tpr_id95"]
    assert kept == pytest.approx(naive_rate((-a).tolist(), (-b).tolist()), abs=2e-4)
    flagged = found["fpr_id_at_tpr_ood95"]
    assert flagged == pytest.approx(naive_rate(b.tolist(), a.tolist()), abs=2e-4)
    summary = metrics.summary(a, b)
    assert kept[0] <= summary.fpr_ood_at_tpr_id95 <= kept[1]
    assert flagged[0] <= summary.fpr_id_at_tpr_ood95 <= flagged[1]


def test_a_rate_holds_the_truth_where_percentiles_of_a_bootstrap_do_not():
    """300 samples of 200: a steep curve, and ties with 95 % at the edge of one."""
    rng = np.random.default_rng(0)
    steep = edge = 0
    for _ in range(300):
        a, b = rng.normal(0, 1, 200), rng.normal(1.5, 0.5, 200)
        low, high = metrics.intervals(a, b, draws=1)["fpr_ood_at_tpr_id95"]
        steep += low <= 0.6140 <= high
        # P(a ≤ 1) = 0.9505: the true threshold is 1, and half of the samples say 2.
        a, b = (rng.random(200) > 0.9505) * 2.0, (rng.random(200) > 0.4) * 2.0
        low, high = metrics.intervals(a, b, draws=1)["fpr_ood_at_tpr_id95"]
        edge += low <= 0.4 <= high
    assert 0.91 < steep / 300 < 0.985
    assert edge / 300 > 0.92


@pytest.mark.parametrize(("n", "m"), [(1, 1), (5, 5), (30, 200), (1000, 1000)])
def test_sets_that_do_not_overlap_leave_room_for_doubt(n, m):
    found = metrics.intervals(range(n), range(2 * n, 2 * n + m), draws=20)
    low, high = found["auroc"]
    assert high == 1.0 and low == pytest.approx(naive_lower(1.0, n, m, 1.959964), abs=1e-4)
    swapped = metrics.intervals(range(2 * n, 2 * n + m), range(n), draws=20)["auroc"]
    assert swapped[0] == 0.0 and swapped[1] == pytest.approx(1 - low, abs=1e-9)
    # The more samples, the less doubt: about z² / (z² + n) of a share that is never seen.
    z = 1.959964**2
    assert found["fpr_ood_at_tpr_id95"] == pytest.approx((0.0, z / (z + m)))
    assert found["fpr_id_at_tpr_ood95"] == pytest.approx((0.0, z / (z + n)))


def test_all_scores_equal_say_next_to_nothing_when_few():
    low, high = metrics.intervals([1.0] * 5, [1.0] * 5, draws=20)["auroc"]
    assert low < 0.25 and high == pytest.approx(1 - low)
    few = metrics.intervals([1.0] * 5, [1.0] * 5, draws=20)["fpr_ood_at_tpr_id95"]
    assert few[1] == 1.0 and few[0] < 0.7


def test_the_room_grows_with_the_level():
    widths = [
        1 - metrics.intervals([0.0] * 20, [1.0] * 20, level=level, draws=5)["auroc"][0]
        for level in (0.5, 0.9, 0.99)
    ]
    assert widths == sorted(widths) and len(set(widths)) == 3


def test_overlapping_sets_keep_delong_and_the_bootstrap():
    rng = np.random.default_rng(1)
    a, b = rng.normal(0, 1, 300), rng.normal(1, 1, 200)
    found = metrics.intervals(a, b, draws=200)
    area = metrics.auroc(a, b)
    above = [(b > x).mean() for x in a]
    below = [(a < y).mean() for y in b]
    error = math.sqrt(np.var(above, ddof=1) / len(a) + np.var(below, ddof=1) / len(b))
    center, spread = math.log(area / (1 - area)), error / (area * (1 - area))
    expected = [1 / (1 + math.exp(-(center + s * 1.959964 * spread))) for s in (-1, 1)]
    assert found["auroc"] == pytest.approx(expected, abs=1e-6)
    low, high = found["fpr_ood_at_tpr_id95"]
    assert low < metrics.fpr_ood_at_tpr_id95(a, b) < high


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"level": 95.0}, r"level=95\.0; expected a share between 0 and 1, such as 0\.95"),
        ({"level": 0.0}, r"level=0\.0"),
        ({"draws": 0}, "draws=0; expected a whole number"),
    ],
)
def test_options_out_of_range_are_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        metrics.intervals([0.0, 1.0], [2.0], **options)
