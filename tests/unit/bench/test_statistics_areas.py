"""AUROC of several methods: DeLong's covariance against loops over pairs, and scikit-learn."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from gradood import metrics
from gradood.metrics import Analysis
from gradood.metrics._delong import Areas
from gradood.metrics.counts import Counts, Scored

NAMES = ("a", "b", "c")


def scores(rng, n, sizes, *, tied=True):
    """Three methods that look at the same images, the second much as the first does."""

    def of(size, shift):
        first = rng.normal(shift, 1, size)
        found = {
            "a": first,
            "b": first + rng.normal(0, 0.3, size),
            "c": rng.normal(shift / 2, 1, size),
        }
        return {k: v.round(1) for k, v in found.items()} if tied else found

    known = of(n, 0.0)
    return known, {f"set{i}": of(size, 1.0 + i / 2) for i, size in enumerate(sizes)}


def sklearn_area(known, unknown):
    is_ood = np.repeat([0, 1], [len(known), len(unknown)])
    return roc_auc_score(is_ood, np.append(known, unknown))


def naive_kernel(low, high):
    return 1.0 if high > low else 0.5 if high == low else 0.0


def naive_components(known, unknown):
    """The structural components of one method on one set, by loops over all pairs."""
    above = [sum(naive_kernel(x, y) for y in unknown) / len(unknown) for x in known]
    below = [sum(naive_kernel(x, y) for x in known) / len(known) for y in unknown]
    return above, below


def naive_covariance(first, second):
    mean_first, mean_second = sum(first) / len(first), sum(second) / len(second)
    pairs = zip(first, second, strict=True)
    return sum((x - mean_first) * (y - mean_second) for x, y in pairs) / (len(first) - 1)


def naive_mean_covariance(known, unknown, a, b):
    """Cov of the means over sets of two methods: V10 of the mean component / n + Σ V01 / m / S²."""
    sets = list(unknown)
    parts = {
        m: {s: naive_components(known[m].tolist(), unknown[s][m].tolist()) for s in sets}
        for m in (a, b)
    }
    n = len(known[a])
    mean = {m: [sum(parts[m][s][0][i] for s in sets) / len(sets) for i in range(n)] for m in (a, b)}
    total = naive_covariance(mean[a], mean[b]) / n
    for s in sets:
        m = len(unknown[s][a])
        total += naive_covariance(parts[a][s][1], parts[b][s][1]) / m / len(sets) ** 2
    return total


def test_covariances_of_one_set_and_of_means_are_those_of_loops():
    known, unknown = scores(np.random.default_rng(0), 23, (17, 31))
    found = Areas.of(Scored.of(known, unknown))
    for sets in (["set0"], ["set1"], ["set0", "set1"]):
        given = {name: unknown[name] for name in sets}
        estimates = found.mean(sets)
        for i, a in enumerate(NAMES):
            area = np.mean([sklearn_area(known[a], given[name][a]) for name in sets])
            assert estimates.values[i] == pytest.approx(area, abs=1e-12)
            for j, b in enumerate(NAMES):
                expected = naive_mean_covariance(known, given, a, b)
                assert estimates.covariance[i, j] == pytest.approx(expected, abs=1e-12)


def test_the_diagonal_is_the_variance_of_the_single_interval():
    known, unknown = scores(np.random.default_rng(1), 40, (25,))
    found = Areas.of(Scored.of(known, unknown)).mean(["set0"])
    for i, name in enumerate(NAMES):
        counts = Counts.of(known[name], unknown["set0"][name])
        assert found.covariance[i, i] == pytest.approx(counts.auroc_variance(), rel=1e-12)
        interval = metrics.intervals(known[name], unknown["set0"][name], draws=1)["auroc"]
        row = Analysis.of(known, unknown, draws=2, precision_draws=2).means()[i]
        assert row["intervals"]["auroc"] == pytest.approx(interval, rel=1e-12)


def test_sharing_the_known_sample_widens_the_mean():
    """Two sets that are scored alike are worth hardly more than one as to the known sample."""
    rng = np.random.default_rng(2)
    known, unknown = scores(rng, 50, (2000, 2000), tied=False)
    found = Areas.of(Scored.of(known, unknown))
    single = [found.mean([name]).covariance[0, 0] for name in unknown]
    independent = sum(single) / 4
    assert found.mean(list(unknown)).covariance[0, 0] > 1.5 * independent


def test_the_variance_is_that_of_repeated_samples():
    rng = np.random.default_rng(3)
    differences, claimed = [], []
    for _ in range(400):
        known, unknown = scores(rng, 60, (50, 70))
        found = Areas.of(Scored.of(known, unknown)).mean(list(unknown))
        differences.append(found.values[0] - found.values[2])
        c = found.covariance
        claimed.append(c[0, 0] + c[2, 2] - 2 * c[0, 2])
    # 400 repetitions: the variance is known to 7 %.
    assert np.mean(claimed) == pytest.approx(np.var(differences, ddof=1), rel=0.25)


@pytest.mark.parametrize("n", [200, 4000])
def test_auroc_equals_scikit_learn_where_almost_all_scores_tie(n):
    rng = np.random.default_rng(n)
    known = {"a": rng.integers(0, 4, n).astype(float), "b": np.zeros(n)}
    unknown = {"set": {"a": rng.integers(1, 6, n // 2).astype(float), "b": np.zeros(n // 2)}}
    found = Areas.of(Scored.of(known, unknown)).mean(["set"]).values
    for i, name in enumerate(("a", "b")):
        expected = sklearn_area(known[name], unknown["set"][name])
        assert abs(found[i] - expected) < 1e-12
        assert abs(metrics.auroc(known[name], unknown["set"][name]) - expected) < 1e-12
