import numpy as np
import pytest
from scipy.stats import spearmanr

from gradood.report._curves import agreement


def test_correlations_are_spearmans_with_ties(rng):
    shared = rng.normal(size=500)
    pooled = {
        "a": shared,
        "b": np.round(shared + rng.normal(size=500)),
        "c": np.exp(3 * shared),
        "d": -shared,
        "e": rng.integers(0, 3, 500).astype(float),
    }
    found = agreement(pooled)
    assert sorted(found["methods"]) == sorted(pooled)
    for i, one in enumerate(found["methods"]):
        for j, other in enumerate(found["methods"]):
            expected = spearmanr(pooled[one], pooled[other]).statistic
            assert found["rho"][i][j] == pytest.approx(100 * expected, abs=0.51)
    place = found["methods"].index
    assert found["rho"][place("a")][place("c")] == 100
    assert found["rho"][place("a")][place("d")] == -100


def test_methods_that_are_alike_stand_side_by_side(rng):
    one, other = rng.normal(size=(2, 400))
    pooled = {
        f"{name}{i}": base + 0.3 * rng.normal(size=400)
        for i in range(4)
        for name, base in (("x", one), ("y", other))
    }
    names = "".join(name[0] for name in agreement(pooled)["methods"])
    assert names in ("xxxxyyyy", "yyyyxxxx")


def test_a_constant_score_correlates_with_nothing_and_infinities_rank(rng):
    values = rng.normal(size=50)
    spiked = np.where(values > 1, np.inf, values)
    found = agreement({"flat": np.ones(50), "a": values, "b": spiked})
    flat = found["methods"].index("flat")
    assert set(found["rho"][flat]) == {None}
    a, b = found["methods"].index("a"), found["methods"].index("b")
    assert found["rho"][a][b] > 95
