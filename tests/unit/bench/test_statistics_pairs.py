"""Comparisons of methods: p-values, families, means with intervals."""

import math

import numpy as np
import pytest
from scipy.stats import norm

from gradood import metrics
from gradood.errors import ConfigError, DataError, UnknownNameError
from gradood.metrics import METRICS, Analysis, comparisons, differences, holm
from gradood.metrics.significance import chance

GROUPS = {"cifar100": "near", "svhn": "far", "textures": "far"}


def scores(seed=0, n=120, m=90):
    """`good` and its noisy copy `close`; `poor` sees next to nothing."""
    rng = np.random.default_rng(seed)

    def of(size, shift):
        good = rng.normal(shift, 1, size)
        return {
            "good": good,
            "close": good + rng.normal(0, 0.2, size),
            "poor": rng.normal(shift / 5, 1, size),
        }

    return of(n, 0.0), {name: of(m + 7 * i, 1.0 + i) for i, name in enumerate(GROUPS)}


def analysis(**options):
    return Analysis.of(*scores(), GROUPS, **{"draws": 200, "precision_draws": 50} | options)


def naive_holm(p, alpha):
    """Which are rejected: from the smallest up until one is not."""
    rejected = set()
    for step, index in enumerate(sorted(range(len(p)), key=lambda i: p[i])):
        if p[index] >= alpha / (len(p) - step):
            break
        rejected.add(index)
    return rejected


def test_holm_on_the_example_of_demsar():
    """Section 3.2.2: C4.5 against three others; 0.016 < 0.017, 0.019 < 0.025, 0.607 > 0.05."""
    ranks = {"m+cf": 1.964, "m": 2.000, "cf": 2.893}
    error = math.sqrt(4 * 5 / (6 * 14))
    p = [chance(3.143 - rank, error) for rank in ranks.values()]
    assert p == pytest.approx([0.016, 0.019, 0.607], abs=2e-3)
    assert holm(p) == pytest.approx([3 * p[0], 3 * p[0], p[2]])
    assert [value < 0.05 for value in holm(p)] == [True, True, False]


def test_holm_rejects_what_the_steps_reject():
    rng = np.random.default_rng(0)
    for alpha in (0.01, 0.05, 0.2):
        for _ in range(50):
            p = (rng.random(12) ** 3).round(2).tolist()
            adjusted = holm(p)
            assert {i for i, value in enumerate(adjusted) if value < alpha} == naive_holm(p, alpha)
            assert all(q >= given for q, given in zip(adjusted, p, strict=True))
    assert holm([]) == [] and holm([0.03]) == [0.03] and holm([0.9, 0.8]) == [1.0, 1.0]


def test_chance_is_two_sided_and_far_tails_do_not_vanish():
    assert chance(1.959964, 1.0) == pytest.approx(0.05, abs=1e-7)
    assert chance(-30.0, 1.0) == pytest.approx(2 * norm.sf(30), rel=1e-9)
    assert chance(0.0, 0.0) == chance(0.1, 0.0) == chance(1e-13, 1e-14) == 1.0


def test_auroc_of_a_pair_is_delongs_test():
    known, unknown = scores()
    row = differences(analysis(), "auroc", ["svhn"], [("good", "poor")])[0]
    parts = {}
    for name in ("good", "poor"):
        a, b = known[name], unknown["svhn"][name]
        parts[name] = ([(b > x).mean() for x in a], [(a < y).mean() for y in b])
    above = np.subtract(parts["good"][0], parts["poor"][0])
    below = np.subtract(parts["good"][1], parts["poor"][1])
    error = math.sqrt(np.var(above, ddof=1) / len(above) + np.var(below, ddof=1) / len(below))
    assert row["difference"] == pytest.approx(above.mean())
    assert row["p"] == pytest.approx(2 * norm.sf(above.mean() / error))
    expected = above.mean() + np.array([-1, 1]) * norm.ppf(0.975) * error
    assert row["interval"] == pytest.approx(expected.tolist())


def test_all_pairs_by_metric_and_group_with_one_family_each():
    rows = comparisons(analysis())
    metrics_, groups = {r["metric"] for r in rows}, {r["group"] for r in rows}
    assert metrics_ == {"auroc", "fpr_ood_at_tpr_id95", "fpr_id_at_tpr_ood95"}
    assert groups == {"all", "near", "far"} and len(rows) == 3 * 3 * 3
    for metric in metrics_:
        for group in groups:
            family = [r for r in rows if (r["metric"], r["group"]) == (metric, group)]
            pairs = [(r["a"], r["b"]) for r in family]
            assert pairs == [("good", "close"), ("good", "poor"), ("close", "poor")]
            assert [r["p_holm"] for r in family] == pytest.approx(holm([r["p"] for r in family]))
            assert [r["significant"] for r in family] == [r["p_holm"] < 0.05 for r in family]
            assert [r["significant"] for r in family][1:] == [True, True]
    better = next(r for r in rows if r["metric"] == "fpr_ood_at_tpr_id95")
    assert set(better) == {
        *("metric", "group", "a", "b", "difference", "interval", "p", "p_holm", "significant")
    }


def test_some_against_the_others():
    rows = comparisons(analysis(), ["auroc"], groups=["all"], against=["poor", "good"])
    pairs = [(r["a"], r["b"]) for r in rows]
    assert pairs == [("good", "poor"), ("close", "poor"), ("close", "good")]
    full = {(r["a"], r["b"]): r for r in comparisons(analysis(), ["auroc"], groups=["all"])}
    assert rows[0]["p"] == full["good", "poor"]["p"]
    assert rows[2]["difference"] == -full["good", "close"]["difference"]


@pytest.mark.parametrize("metric", METRICS)
def test_a_method_does_not_differ_from_itself(metric):
    known, unknown = scores()
    twice = {"x": known["good"], "y": 2 * known["good"]}
    sets = {name: {"x": s["good"], "y": 2 * s["good"]} for name, s in unknown.items()}
    found = Analysis.of(twice, sets, draws=100, precision_draws=50)
    row = differences(found, metric, list(sets), [("x", "y")])[0]
    assert row["difference"] == pytest.approx(0, abs=1e-12) and row["p"] == 1.0
    low, high = row["interval"]
    assert low <= 0 <= high and high - low < 0.05


def test_sets_that_do_not_overlap_leave_room_for_doubt():
    """Both AUROCs have no variance of their own: 1 against 0.5 of five samples is no certainty."""
    known = {"split": np.arange(5.0), "flat": np.zeros(5)}
    unknown = {"s": {"split": np.arange(10.0, 15), "flat": np.zeros(5)}}
    found = Analysis.of(known, unknown, draws=50, precision_draws=20)
    row = differences(found, "auroc", ["s"], [("split", "flat")])[0]
    assert row["difference"] == 0.5 and 1e-4 < row["p"] < 0.1
    means = found.means()
    assert means[0]["intervals"]["auroc"][1] == 1.0 > means[0]["intervals"]["auroc"][0] > 0.4
    low, high = means[0]["intervals"]["fpr_ood_at_tpr_id95"]
    assert low == 0.0 < high < 0.6


def test_rows_and_means_are_those_of_metrics():
    known, unknown = scores()
    found = analysis(precision_draws=400)
    rows = {(r["method"], r["ood"]): r for r in found.rows()}
    assert list(rows) == [(m, s) for m in known for s in unknown]
    for (method, name), row in rows.items():
        a, b = known[method], unknown[name][method]
        assert (row["n_id"], row["n_ood"]) == (len(a), len(b))
        summary, intervals = metrics.summary(a, b), metrics.intervals(a, b, draws=400)
        for metric in METRICS:
            assert row[metric] == getattr(summary, metric)
            close = 0.03 if metric.startswith("aupr") else 1e-12
            assert row["intervals"][metric] == pytest.approx(intervals[metric], abs=close)
    means = found.means()
    assert [(r["method"], r["group"]) for r in means[:3]] == [
        ("good", "all"), ("good", "near"), ("good", "far"),
    ]  # fmt: skip
    for row in means:
        sets = [s for s, g in GROUPS.items() if row["group"] in ("all", g)]
        for metric in METRICS:
            expected = np.mean([rows[row["method"], s][metric] for s in sets])
            assert row[metric] == pytest.approx(expected, abs=1e-12)
            low, high = row["intervals"][metric]
            assert low <= row[metric] <= high and 0 < high - low < 0.4


def test_the_same_twice_and_another_level_is_wider():
    first, second = analysis().means(), analysis().means()
    assert first == second
    wide = analysis(level=0.99).means()
    for narrow, other in zip(first, wide, strict=True):
        for metric in METRICS:
            (a, b), (c, d) = narrow["intervals"][metric], other["intervals"][metric]
            assert c <= a and b <= d and d - c > b - a


def test_two_methods_of_one_worth_are_told_apart_as_seldom_as_promised():
    """400 samples of two equal methods: 5 % of the p-values below 0.05, within 3 errors."""
    rng = np.random.default_rng(7)
    below = dict.fromkeys(("auroc", "fpr_ood_at_tpr_id95"), 0)
    for repeat in range(200):
        shared = {name: rng.normal(0, 1, 80) for name in ("k", "u")}
        known = {m: shared["k"] + rng.normal(0, 1, 80) for m in "ab"}
        unknown = {"s": {m: 2 + shared["u"] + rng.normal(0, 1, 80) for m in "ab"}}
        found = Analysis.of(known, unknown, draws=100, seed=repeat)
        for metric in below:
            below[metric] += differences(found, metric, ["s"], [("a", "b")])[0]["p"] < 0.05
    assert 2 <= below["auroc"] <= 20
    assert below["fpr_ood_at_tpr_id95"] <= 20


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"known": {}}, DataError, "no scores were given"),
        ({"unknown": {}}, DataError, "no scores were given"),
        ({"unknown": {"s": {"a": [1.0]}}}, DataError, "set 's' has no scores of b"),
        ({"unknown": {"s": {"a": [1.0], "b": [1.0, 2.0]}}}, DataError, "different numbers of sc"),
        ({"known": {"a": [0.0], "b": [math.nan]}}, DataError, "b on id holds 1 NaN"),
        ({"groups": {"s": "middle"}}, ConfigError, "expected near or far"),
        ({"groups": {"t": "near"}}, ConfigError, "group of a set 't': choose from s"),
        ({"level": 95.0}, ConfigError, r"level=95\.0"),
        ({"draws": 1}, ConfigError, "draws=1; expected a whole number > 1"),
    ],
)
def test_what_cannot_be_compared_is_refused(change, error, message):
    given = {"known": {"a": [0.0, 1.0], "b": [0.0, 1.0]}, "unknown": {"s": {"a": [1.0], "b": [2]}}}
    with pytest.raises(error, match=message):
        Analysis.of(**(given | change))


def test_names_that_do_not_exist_are_refused():
    found = analysis()
    with pytest.raises(UnknownNameError, match=r"no metric 'aurc'; did you mean 'auroc'"):
        comparisons(found, ["aurc"])
    with pytest.raises(UnknownNameError, match=r"no scores of 'goood'; did you mean 'good'"):
        comparisons(found, against=["goood"])
    with pytest.raises(ConfigError, match=r"group 'middle' has no sets; choose from all, far, nea"):
        comparisons(found, groups=["middle"])
