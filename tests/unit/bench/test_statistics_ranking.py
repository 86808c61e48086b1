"""Ranks against the tables of Demšar (2006) and scipy; deviations over seeds."""

import numpy as np
import pytest
from scipy import stats

from gradood.errors import ConfigError, DataError
from gradood.metrics import critical_difference, over_seeds, ranking

# Table 5 (a): critical values for the two-tailed Nemenyi test.
Q05 = [1.960, 2.343, 2.569, 2.728, 2.850, 2.949, 3.031, 3.102, 3.164]
Q10 = [1.645, 2.052, 2.291, 2.459, 2.589, 2.693, 2.780, 2.855, 2.920]

NAMES = ["C4.5", "C4.5+m", "C4.5+cf", "C4.5+m+cf"]
# Table 6: ranks of the four on 14 data sets.
RANKS = np.array(
    [
        *([4, 3, 2, 1], [1, 2, 3, 4], [4, 1, 2, 3], [4, 1, 3, 2], [4, 2, 3, 1], [1, 2.5, 4, 2.5]),
        *([3, 2, 4, 1], [2.5, 2.5, 4, 1], [4, 3, 2, 1], [2.5] * 4, [4, 2.5, 1, 2.5]),
        *([3, 2, 4, 1], [4, 1, 2, 3], [3, 1, 4, 2]),
    ]
).T


@pytest.mark.parametrize(("alpha", "table"), [(0.05, Q05), (0.10, Q10)])
def test_critical_values_are_those_of_the_table(alpha, table):
    for methods, q in enumerate(table, start=2):
        blocks = methods * (methods + 1)  # Then the difference is q / √6.
        found = critical_difference(methods, blocks, alpha=alpha) * 6**0.5
        assert found == pytest.approx(q, abs=1e-3)  # Some are cut, not rounded.
    assert critical_difference(1, 5) == 0.0


def test_the_example_of_demsar():
    found = ranking(-RANKS, NAMES)
    assert found["metric"] == "auroc" and found["blocks"] == 14
    assert list(found["mean_rank"]) == ["C4.5+m+cf", "C4.5+m", "C4.5+cf", "C4.5"]
    assert list(found["mean_rank"].values()) == pytest.approx([1.964, 2.0, 2.893, 3.143], abs=5e-4)
    assert found["critical_difference"] == pytest.approx(1.25, abs=5e-3)
    assert ranking(-RANKS, NAMES, alpha=0.1)["critical_difference"] == pytest.approx(1.12, abs=5e-3)
    # "the experimental data is not sufficient to reach any conclusion" about the others:
    # at 5 % nothing differs, at 10 % C4.5 from the two with m.
    assert found["cliques"] == [["C4.5+m+cf", "C4.5+m", "C4.5+cf", "C4.5"]]
    assert ranking(-RANKS, NAMES, alpha=0.1)["cliques"] == [
        ["C4.5+m+cf", "C4.5+m", "C4.5+cf"],
        ["C4.5+cf", "C4.5"],
    ]
    # Friedman's statistic without correction for ties, equation (7), is 9.28.
    means = RANKS.mean(axis=1)
    assert 12 * 14 / 20 * ((means**2).sum() - 4 * 25 / 4) == pytest.approx(9.28, abs=0.01)
    expected = stats.friedmanchisquare(*(-RANKS)).pvalue
    assert found["friedman_p"] == pytest.approx(expected, rel=1e-9)


def test_less_is_better_for_false_positive_rates():
    found = ranking(RANKS, NAMES, metric="fpr_ood_at_tpr_id95")
    assert found["mean_rank"] == ranking(-RANKS, NAMES)["mean_rank"]


def naive_cliques(ranks, critical):
    """Maximal runs in order of rank whose ends are closer than the difference."""
    order = np.argsort(ranks)
    runs = [
        order[i:j].tolist()
        for i in range(len(order))
        for j in range(i + 2, len(order) + 1)
        if ranks[order[j - 1]] - ranks[order[i]] < critical
    ]
    return [r for r in runs if not any(set(r) < set(other) for other in runs)]


def test_many_methods_against_scipy_and_naive_cliques():
    rng = np.random.default_rng(0)
    values = rng.normal(0, 1, (12, 18)) + np.linspace(0, 6, 12)[:, None]
    found = ranking(values, [f"m{i}" for i in range(12)])
    ranks = np.array([13 - stats.rankdata(column) for column in values.T]).mean(axis=0)
    assert [found["mean_rank"][f"m{i}"] for i in range(12)] == pytest.approx(ranks)
    assert found["friedman_p"] == pytest.approx(stats.friedmanchisquare(*values).pvalue, rel=1e-9)
    expected = naive_cliques(ranks, found["critical_difference"])
    assert found["cliques"] == [[f"m{i}" for i in run] for run in expected]
    assert 1 < len(expected) < 12
    for clique in found["wilcoxon_cliques"]:
        assert len(clique) > 1 and len(clique) < 12


def test_wilcoxon_needs_six_blocks_to_find_anything():
    steps = np.arange(3)[:, None] + np.linspace(0, 0.5, 9) * [[1], [2], [3]]
    names = ["a", "b", "c"]
    assert ranking(steps[:, :5], names)["wilcoxon_cliques"] == [["c", "b", "a"]]
    assert ranking(steps, names)["wilcoxon_cliques"] == []


def test_nothing_to_test_is_no_difference():
    flat = ranking(np.ones((3, 6)), ["a", "b", "c"])
    assert flat["friedman_p"] == 1.0 and flat["cliques"] == [["a", "b", "c"]]
    assert flat["wilcoxon_cliques"] == [["a", "b", "c"]]
    assert ranking([[0.1], [0.2]], ["a", "b"])["friedman_p"] == 1.0
    one = ranking([[0.1, 0.2]], ["a"])
    assert (one["mean_rank"], one["cliques"]) == ({"a": 1.0}, [])


@pytest.mark.parametrize(
    ("values", "names", "message"),
    [
        ([[0.1, 0.2]], ["a", "b"], r"shape \(1, 2\) for 2 names"),
        ([0.1, 0.2], ["a", "b"], r"shape \(2,\)"),
        ([[0.1], [0.2]], ["a", "a"], "named twice"),
        ([[0.1], [float("nan")]], ["a", "b"], "not finite"),
    ],
)
def test_tables_with_holes_are_refused(values, names, message):
    with pytest.raises(DataError, match=message):
        ranking(values, names)


def test_alpha_is_a_share():
    with pytest.raises(ConfigError, match=r"alpha=5; expected a share"):
        ranking([[0.1], [0.2]], ["a", "b"], alpha=5)


def test_over_seeds_is_the_sample_standard_deviation():
    rng = np.random.default_rng(1)
    values = rng.random((4, 2))
    runs = [
        [
            {"method": "msp", "group": "all", "auroc": a, "aupr_in": b, "intervals": {}},
            *([{"method": "knn", "group": "near", "auroc": a}] if i == 0 else []),
        ]
        for i, (a, b) in enumerate(values)
    ]
    found = over_seeds(runs)
    for column, metric in enumerate(("auroc", "aupr_in")):
        row = found["msp"]["all"][metric]
        assert row["mean"] == pytest.approx(values[:, column].mean())
        assert row["sd"] == pytest.approx(np.std(values[:, column], ddof=1))
        assert row["n"] == 4
    assert found["knn"] == {"near": {"auroc": {"mean": values[0, 0], "sd": None, "n": 1}}}
    assert over_seeds([]) == {}
