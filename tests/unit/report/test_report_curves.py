import numpy as np
import pytest

from gradood.errors import DataError
from gradood.metrics import auroc
from gradood.report._curves import histogram, roc, threshold


def area(curve: dict[str, list[int]]) -> float:
    x, y = (np.array(curve[name]) / 1000 for name in ("flagged", "caught"))
    return float(np.sum(np.diff(x) * (y[1:] + y[:-1]) / 2))


@pytest.mark.parametrize("decimals", [0, 1, 8])
@pytest.mark.parametrize("points", [200, 40])
def test_a_curve_is_short_monotone_and_encloses_the_auroc(rng, decimals, points):
    known = np.round(rng.normal(size=5000), decimals)
    unknown = np.round(rng.normal(1.3, 1.5, size=3000), decimals)
    curve = roc(known, unknown, points)
    assert len(curve["flagged"]) == len(curve["caught"]) <= points
    assert (curve["flagged"][0], curve["caught"][0]) == (0, 0)
    assert (curve["flagged"][-1], curve["caught"][-1]) == (1000, 1000)
    assert min(np.diff(curve["flagged"])) >= 0 <= min(np.diff(curve["caught"]))
    assert area(curve) == pytest.approx(auroc(known, unknown), abs=0.002)


def test_a_curve_of_few_samples_is_exact():
    assert roc(np.array([0.0, 1.0]), np.array([0.5, 2.0])) == {
        "flagged": [0, 0, 500, 500, 1000],
        "caught": [0, 500, 500, 1000, 1000],
    }


def test_curves_of_separated_and_of_constant_scores():
    apart = roc(np.zeros(5), np.ones(4))
    assert apart == {"flagged": [0, 0, 1000], "caught": [0, 1000, 1000]}
    assert roc(np.ones(5), np.ones(4)) == {"flagged": [0, 1000], "caught": [0, 1000]}


def test_a_histogram_holds_every_sample_also_infinite_ones(rng):
    known = np.concatenate([rng.normal(size=997), [np.inf, -np.inf, 1e300]])
    unknown = np.concatenate([rng.normal(2, size=499), [np.inf]])
    made = histogram(known, unknown, 40)
    assert len(made["known"]) == len(made["unknown"]) == 40
    # Bars are rounded to a tenth of a thousandth.
    assert sum(made["known"]) == pytest.approx(1000, abs=2)
    assert sum(made["unknown"]) == pytest.approx(1000, abs=2)
    assert -5 < made["low"] < -1 < 3 < made["high"] < 8


@pytest.mark.parametrize("value", [0.0, -3e8, np.inf])
def test_a_histogram_of_one_value_can_be_drawn(value):
    made = histogram(np.full(6, value), np.full(3, value), 5)
    assert made["low"] < made["high"]
    assert sum(made["known"]) == pytest.approx(1000)


@pytest.mark.parametrize("n", [1, 19, 20, 21, 100, 1001])
def test_the_threshold_keeps_at_least_95_percent_and_no_smaller_score_does(n, rng):
    known = rng.integers(0, 40, n).astype(float)
    found = threshold(known)
    assert found is not None
    assert np.mean(known <= found) >= 0.95
    assert np.mean(known < found) < 0.95


def test_a_threshold_is_not_told_if_infinite_and_nan_is_refused():
    assert threshold(np.full(4, np.inf)) is None
    with pytest.raises(DataError, match="NaN"):
        roc(np.array([np.nan]), np.ones(2))
