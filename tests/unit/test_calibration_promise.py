"""What a promise takes, against scipy and exact arithmetic."""

import math
from fractions import Fraction

import numpy as np
import pytest
import scipy.stats
import torch

from gradood.calibration import Promise, benjamini_hochberg, required
from gradood.calibration.guarantee import deciding_rank
from gradood.errors import ConfigError, DataError

RATES = (0.5, 0.3, 0.1, 0.07, 0.05, 0.01, 1 / 3, 0.001)


@pytest.mark.parametrize(("fpr", "samples"), [(0.05, 59), (0.01, 299), (0.001, 2995)])
def test_the_published_minimum_for_95_percent_confidence(fpr, samples):
    assert required(Promise(fpr, "pac")) == samples


@pytest.mark.parametrize("fpr", RATES)
def test_the_marginal_minimum_is_the_first_whose_smallest_p_value_is_low_enough(fpr):
    need = required(Promise(fpr))
    assert 1 / (need + 1) <= fpr
    assert need == 1 or 1 / need > fpr


@pytest.mark.parametrize("fpr", [*RATES, 0.9])
@pytest.mark.parametrize("confidence", [0.5, 0.75, 0.9, 0.95, 0.999])
def test_the_pac_minimum_in_exact_arithmetic(fpr, confidence):
    need = required(Promise(fpr, "pac", confidence))
    miss, allowed = 1 - Fraction(fpr), 1 - Fraction(confidence)
    assert miss**need <= allowed
    assert need == 1 or miss ** (need - 1) > allowed


@pytest.mark.parametrize("fpr", RATES)
@pytest.mark.parametrize("samples", [1, 2, 19, 58, 59, 60, 299, 1000, 12345])
def test_the_rank_is_zero_exactly_below_the_minimum(fpr, samples):
    for promise in (Promise(fpr), Promise(fpr, "pac"), Promise(fpr, "pac", 0.6)):
        assert (deciding_rank(samples, promise) > 0) == (samples >= required(promise))


@pytest.mark.parametrize("samples", [59, 93, 100, 1000, 12_345, 3_000_000])
@pytest.mark.parametrize("fpr", [0.05, 0.2, 0.9])
@pytest.mark.parametrize("confidence", [0.5, 0.95, 1 - 1e-6])
def test_the_pac_rank_is_the_largest_that_scipy_allows(samples, fpr, confidence):
    rank = deciding_rank(samples, Promise(fpr, "pac", confidence))
    allowed = 1 - confidence
    if rank:
        assert scipy.stats.binom.cdf(rank - 1, samples, fpr) <= allowed
    assert scipy.stats.binom.cdf(rank, samples, fpr) > allowed or rank == samples


def test_the_pac_rank_in_exact_arithmetic():
    for samples in (59, 60, 93, 124, 200):
        for fpr in (0.05, 0.1):
            p, below, rank = Fraction(fpr), Fraction(0), 0
            while True:
                below += math.comb(samples, rank) * p**rank * (1 - p) ** (samples - rank)
                if below > 1 - Fraction(0.95):
                    break
                rank += 1
            assert deciding_rank(samples, Promise(fpr, "pac")) == rank


def test_the_marginal_rank_agrees_with_the_p_value_in_the_last_bit():
    for fpr in RATES:
        for samples in range(1, 400):
            rank = deciding_rank(samples, Promise(fpr))
            assert all((k / (samples + 1) <= fpr) == (k <= rank) for k in range(1, samples + 1))


def test_rare_promises_take_no_memory():
    promise = Promise(1e-12, "pac")
    assert required(promise) == pytest.approx(math.log(20) * 1e12, rel=1e-9)
    assert deciding_rank(required(promise) - 1, promise) == 0
    assert required(Promise(1e-9)) == 10**9 - 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"fpr": 0}, r"fpr=0; expected a number between 0 and 1"),
        ({"fpr": 1.0}, r"fpr=1\.0; expected"),
        ({"fpr": math.nan}, r"fpr=nan; expected"),
        ({"fpr": True}, r"fpr=True; expected"),
        ({"fpr": "0.05"}, r"fpr='0\.05'; expected"),
        ({"confidence": 1}, r"confidence=1; expected"),
        ({"mode": "PAC"}, r"mode='PAC'; expected 'marginal' or 'pac'"),
    ],
)
def test_promises_out_of_range_are_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        Promise(**options)


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64])
def test_a_rate_of_numpy_is_the_number_it_is(kind):
    promise = Promise(kind(0.25), confidence=kind(0.5))
    assert promise == Promise(0.25, confidence=0.5)
    assert type(promise.fpr) is type(promise.confidence) is float


def test_a_promise_in_words():
    assert str(Promise(0.001)) == "a false-alarm rate of at most 0.1 %"
    assert str(Promise(mode="pac")) == "a false-alarm rate of at most 5 % at 95 % confidence"


# ---------------------------------------------------------------- selection


def test_selection_is_that_of_scipy():
    rng = np.random.default_rng(0)
    found = 0
    for _ in range(300):
        p = rng.random(rng.integers(1, 40)) ** rng.choice([1, 4])
        p = np.ceil(p * 50) / 51 if rng.random() < 0.5 else p
        fdr = rng.choice([0.037, 0.1, 0.31])
        expected = scipy.stats.false_discovery_control(p) <= fdr
        found += expected.sum()
        assert benjamini_hochberg(torch.tensor(p), fdr).tolist() == expected.tolist()
    assert found > 500


def test_selection_at_the_edge_takes_what_is_equal_to_it():
    p = torch.tensor([0.1, 0.9, 0.1, 0.2], dtype=torch.float64)
    assert benjamini_hochberg(p, 0.2).tolist() == [True, False, True, False]
    assert benjamini_hochberg(torch.tensor([0.3]), 0.2).tolist() == [False]
    empty = benjamini_hochberg(torch.empty(0), 0.1)
    assert (empty.shape, empty.dtype) == ((0,), torch.bool)


def test_selection_refuses_what_is_no_p_value():
    for bad in ([math.nan], [1.5], [-0.1]):
        with pytest.raises(DataError, match="from 0 to 1"):
            benjamini_hochberg(torch.tensor(bad), 0.1)
    with pytest.raises(DataError, match=r"shape \(1, 1\)"):
        benjamini_hochberg(torch.zeros(1, 1), 0.1)
    with pytest.raises(ConfigError, match=r"fdr=0; expected"):
        benjamini_hochberg(torch.zeros(1), 0)
