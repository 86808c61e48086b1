"""The nearest-neighbor search against all distances, in float64."""

import math

import numpy as np
import pytest
import torch

from gradood.functional import neighbors
from gradood.functional.neighbors import Bank, Polar, kth_distance, polar


def wide(vectors):
    """In extended precision, whose exponent holds the square of e^500."""
    lengths = np.exp(vectors.log_length.numpy().astype(np.longdouble))
    return vectors.unit.numpy().astype(np.longdouble) * lengths[:, None]


def brute(queries, bank, k):
    """All distances, from the same directions and lengths."""
    gaps = wide(queries)[:, None] - wide(bank)[None]
    distances = np.sort(np.sqrt((gaps * gaps).sum(2)), 1)[:, k - 1]
    return torch.from_numpy(distances.astype(np.float64))


def check(queries, bank, k, rtol=1e-11, atol=0.0):
    torch.testing.assert_close(
        kth_distance(queries, Bank.of(bank), k), brute(queries, bank, k), rtol=rtol, atol=atol
    )


@pytest.fixture(params=[4096, 16], ids=["one block", "many blocks"])
def block(request, monkeypatch):
    monkeypatch.setattr(neighbors, "_BLOCK", request.param)


def vectors(n, width=6, spread=1.0):
    return polar(torch.randn(n, width) * torch.exp(spread * torch.randn(n, 1)))


@pytest.mark.parametrize("spread", [0.0, 1.0, 5.0])
@pytest.mark.parametrize("k", [1, 2, 7, 100])
def test_random_vectors(block, k, spread):
    check(vectors(40, spread=spread), vectors(100, spread=spread), k)


@pytest.mark.parametrize("k", [1, 3, 5, 40])
def test_duplicates_count_each(block, k):
    bank = torch.randn(10, 4).repeat(4, 1)
    queries = torch.cat([bank[:5], torch.randn(5, 4)])
    out = kth_distance(polar(queries), Bank.of(polar(bank)), k)
    expected = torch.cdist(queries.double(), bank.double()).sort(1).values[:, k - 1]
    torch.testing.assert_close(out, expected, rtol=1e-5, atol=1e-6)
    if k < 5:
        assert bool((out[:5] < 1e-6).all())


@pytest.mark.parametrize("k", [1, 2, 3, 6])
def test_zero_vectors(block, k):
    bank = torch.cat([torch.zeros(2, 3), torch.randn(4, 3)])
    queries = torch.cat([torch.zeros(1, 3), torch.randn(3, 3)])
    check(polar(queries), polar(bank), k)
    if k <= 2:
        assert float(kth_distance(polar(queries), Bank.of(polar(bank)), k)[0]) == 0.0


def test_a_zero_query_among_longer_vectors():
    bank = polar(torch.tensor([[3.0, 4.0], [6.0, 8.0], [0.0, 1.0]]))
    out = kth_distance(polar(torch.zeros(1, 2)), Bank.of(bank), 2)
    torch.testing.assert_close(out, torch.tensor([5.0], dtype=torch.float64), rtol=1e-6, atol=0)


@pytest.mark.parametrize("shift", [-500.0, -100.0, 0.0, 100.0, 500.0])
@pytest.mark.parametrize("k", [1, 4])
def test_lengths_far_beyond_single_precision(block, shift, k):
    queries, bank = vectors(20), vectors(60)
    far = [Polar(v.unit, v.log_length + shift) for v in (queries, bank)]
    check(*far, k)


@pytest.mark.parametrize("k", [1, 2, 5, 30])
def test_lengths_of_very_different_sizes(block, k):
    """As of gradients: one query's length may be e^−300 of another's.

    Vectors too short to matter are equally near to single precision, which chooses among them.
    """
    bank = vectors(30)
    queries = vectors(30)
    uneven = torch.linspace(-300, 0, 30, dtype=torch.float64)
    check(Polar(queries.unit, uneven.flip(0)), Polar(bank.unit, uneven), k, rtol=1e-6)
    check(Polar(queries.unit, uneven - 200), Polar(bank.unit, uneven), k, rtol=1e-6)
    check(Polar(queries.unit, uneven + 400), Polar(bank.unit, uneven), k, rtol=1e-6)


@pytest.mark.parametrize("far", [45.0, 120.0])
def test_vectors_beyond_single_precision_hide_no_nearer_ones_of_other_blocks(monkeypatch, far):
    """All queries have one scale, and blocks selected together hold short and huge vectors."""
    monkeypatch.setattr(neighbors, "_BLOCK", 16)
    unit = torch.nn.functional.normalize(torch.randn(48, 6).relu() + 1e-3 * torch.rand(48, 1))
    lengths = torch.where(torch.arange(48) < 36, 0.0, far).double()
    own = torch.nn.functional.normalize(torch.randn(5, 6).relu() + 1e-3)
    queries = Polar(own, torch.full((5,), -1.2, dtype=torch.float64))
    for k in (1, 3, 10):
        check(queries, Polar(unit * (unit > 0.2), lengths), k, rtol=1e-6)


def test_the_order_of_the_bank_does_not_matter():
    bank = vectors(50)
    order = torch.randperm(50)
    shuffled = Polar(bank.unit[order], bank.log_length[order])
    queries = vectors(9)
    a, b = (kth_distance(queries, Bank.of(given), 3) for given in (bank, shuffled))
    torch.testing.assert_close(a, b, rtol=1e-12, atol=0)


def test_a_row_alone_is_what_it_is_in_a_batch(monkeypatch):
    monkeypatch.setattr(neighbors, "_BLOCK", 8)
    queries, bank = vectors(12, spread=3.0), Bank.of(vectors(50, spread=3.0))
    together = kth_distance(queries, bank, 2)
    for i in range(12):
        alone = kth_distance(Polar(queries.unit[i : i + 1], queries.log_length[i : i + 1]), bank, 2)
        torch.testing.assert_close(alone, together[i : i + 1], rtol=1e-12, atol=0)


def test_skipped_blocks_hold_no_nearer_vector(monkeypatch):
    """Short and long vectors in different blocks, and a query whose neighbor has another length."""
    monkeypatch.setattr(neighbors, "_BLOCK", 4)
    searched = []
    search = neighbors._search
    monkeypatch.setattr(neighbors, "_search", lambda *a: searched.append(a[4]) or search(*a))
    direction = torch.nn.functional.normalize(torch.randn(1, 5, dtype=torch.float64))
    bank = Polar(
        torch.cat([-direction.repeat(12, 1), direction.repeat(12, 1)]).float(),
        torch.cat([torch.linspace(0, 0.1, 12), torch.linspace(0.5, 5, 12)]).double(),
    )
    query = Polar(direction.float(), torch.zeros(1, dtype=torch.float64))
    out = kth_distance(query, Bank.of(bank), 1)
    torch.testing.assert_close(out, brute(query, bank, 1), rtol=1e-12, atol=0)
    assert math.isclose(float(out), math.exp(0.5) - 1, rel_tol=1e-6)
    assert 0 < len(searched) < 6


def test_polar_keeps_the_vector():
    x = torch.randn(5, 3)
    p = polar(x)
    torch.testing.assert_close(p.unit * p.log_length.exp()[:, None].float(), x)
    assert p.log_length.dtype == torch.float64
    tiny = polar(torch.full((1, 4), 1e-40))
    torch.testing.assert_close(tiny.unit, torch.full((1, 4), 0.5))


@pytest.mark.parametrize("k", [1, 20])
def test_near_duplicates_are_told_apart(k):
    """Frames of one video: the bank is a tight cluster, and the query lies in it."""
    center = torch.nn.functional.normalize(torch.randn(1, 32), dim=1)
    bank = polar(torch.nn.functional.normalize(center + 2e-5 * torch.randn(500, 32), dim=1))
    queries = polar(torch.nn.functional.normalize(center + 2e-5 * torch.randn(20, 32), dim=1))
    check(queries, bank, k, rtol=1e-5)


def test_a_block_is_not_skipped_for_a_distance_that_rounding_made_zero(monkeypatch):
    """One block holds a vector at 1e-4, which is 0 in float32; the next one holds one at 2e-5."""
    monkeypatch.setattr(neighbors, "_BLOCK", 16)
    normalize = torch.nn.functional.normalize
    for _ in range(20):
        query = normalize(torch.randn(1, 32).double())
        noise, far = torch.randn(2, 32).double() / 32**0.5, torch.randn(30, 32).double()
        near, nearer = normalize(query + 1e-4 * noise[:1]), normalize(query + 1e-6 * noise[1:])
        unit = torch.cat([near, normalize(far[:15]), nearer, normalize(far[15:])]).float()
        lengths = torch.tensor([1.0, 1 + 2e-5], dtype=torch.float64).repeat_interleave(16)
        given = Polar(query.float(), torch.zeros(1, dtype=torch.float64))
        check(given, Polar(unit, lengths.log()), 1, rtol=1e-6)


@pytest.mark.parametrize("spread", [1e-2, 1e-4, 1e-6, 1e-9])
def test_near_duplicates(block, spread):
    """Closer together than float32, and then float64, products can tell."""
    centers = torch.randn(3, 12, dtype=torch.float64)
    bank = centers.repeat(40, 1) + spread * torch.randn(120, 12, dtype=torch.float64)
    queries = centers.repeat(4, 1) + spread * torch.randn(12, 12, dtype=torch.float64)
    check(polar(queries), polar(bank), 5, rtol=1e-9, atol=1e-14)


def test_searches_in_float64_come_before_those_by_differences(monkeypatch):
    def refused(*_):
        raise AssertionError("slow")

    monkeypatch.setattr(neighbors, "_exhaustive", refused)
    bank = torch.randn(1, 12) + 1e-3 * torch.randn(500, 12)
    check(polar(bank[:20] + 1e-4 * torch.randn(20, 12)), polar(bank), 5, rtol=1e-9)


def test_no_operation_without_a_deterministic_version(monkeypatch):
    def refused(*_, **__):
        raise AssertionError("kthvalue has no deterministic version on CUDA")

    monkeypatch.setattr(torch.Tensor, "kthvalue", refused)
    check(vectors(5), vectors(20), 3)
