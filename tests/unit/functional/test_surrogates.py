"""Surrogate outliers: what they keep of the rows, and how a score is judged by them."""

import pytest
import torch

from gradood.functional.surrogates import (
    best_separating,
    crossed,
    gaussian,
    separation,
    surrogates,
)


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(3)


def rows(count: int = 40, width: int = 7, *, signed: bool = False) -> torch.Tensor:
    drawn = torch.randn(count, width, generator=generator(), dtype=torch.float64)
    return drawn if signed else drawn.relu()


def test_gaussian_draws_have_the_moments_of_the_rows_within_the_range_of_each_unit():
    known = rows(signed=True)
    drawn = gaussian(known, 200_000, generator())
    assert torch.equal(torch.maximum(drawn.amax(0), known.amax(0)), known.amax(0))
    assert torch.equal(torch.minimum(drawn.amin(0), known.amin(0)), known.amin(0))
    torch.testing.assert_close(drawn.mean(0), known.mean(0), atol=0.05, rtol=0)
    assert (gaussian(rows(), 500, generator()) >= 0).all()


@pytest.mark.parametrize("count", [3, 40, 100])
def test_a_crossing_takes_each_unit_from_one_of_two_rows(count):
    known = torch.arange(40.0, dtype=torch.float64)[:, None].repeat(1, 7)
    found = crossed(known, count, generator())
    assert found.shape == (count, 7)
    sources = [sorted(set(row.tolist())) for row in found]
    assert all(len(source) <= 2 for source in sources)
    assert sum(len(source) == 2 for source in sources) > 0.9 * count


@pytest.mark.parametrize("count", [1, 2, 300])
def test_there_are_as_many_of_both_kinds_and_the_same_every_time(count):
    known = rows(count)
    found = surrogates(known)
    assert len(found) == 2 * max(count, 200)
    assert torch.equal(surrogates(known), found) and bool(found.isfinite().all())


def test_separation_is_the_share_of_pairs_in_order():
    known, outliers = torch.tensor([0.0, 1.0, 1.0, 3.0]), torch.tensor([1.0, 2.0, -1.0])
    pairs = [(o > k) + 0.5 * (o == k) for o in outliers.tolist() for k in known.tolist()]
    assert separation(known, outliers) == sum(pairs) / len(pairs)


def test_the_first_of_equal_scores_is_best_and_what_is_not_finite_is_an_outlier():
    known = rows()
    one, same = (lambda h: h.sum(1)), (lambda h: 2 * h.sum(1))
    assert best_separating(known, [one, same]) == 0
    members = {tuple(row) for row in known.tolist()}
    inside = torch.tensor([0.0, torch.nan], dtype=torch.float64)
    told = lambda h: inside[[int(tuple(row) not in members) for row in h.tolist()]]  # noqa: E731
    assert best_separating(known, [one, told, same]) == 1
