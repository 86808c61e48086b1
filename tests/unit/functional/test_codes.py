"""Codes of directions: a rotation that keeps distances, and 4 bits per number."""

import pytest
import torch

from gradood.functional import nnguide
from gradood.functional.codes import CodedVectors, Codes, rotated
from gradood.functional.grood import coded_gradients, ood_gradient
from gradood.functional.neighbors import Bank, CodedPolar, Polar, kth_distance, polar
from gradood.functional.nnguide import guidance, nearest_guides

WIDTHS = [1, 2, 5, 64, 342]


def directions(rows, width):
    return polar(torch.randn(rows, width, generator=torch.Generator().manual_seed(width))).unit


@pytest.mark.parametrize("width", WIDTHS)
def test_the_rotation_keeps_every_product(width):
    units = directions(50, width)
    turned = rotated(units.double())
    assert torch.allclose(turned @ turned.T, units.double() @ units.double().T, atol=1e-12)
    if width > 2:
        assert not torch.allclose(turned, units.double(), atol=0.1)


def test_the_rotation_is_the_same_everywhere():
    turned = rotated(torch.eye(3, dtype=torch.float64))
    assert [[round(x, 4) for x in row] for row in turned.tolist()] == ROTATION_OF_THREE


ROTATION_OF_THREE = [[0.8536, 0.4571, -0.25], [0.1464, 0.25, 0.9571], [-0.5, 0.8536, -0.1464]]


@pytest.mark.parametrize("width", WIDTHS)
def test_codes_are_close_and_take_few_bits(width):
    units = directions(200, width)
    for bits, columns, least in ((4, (width + 1) // 2, 0.97), (8, width, 0.999)):
        codes = Codes.of(units, bits)
        assert codes.packed.shape == (200, columns)
        assert codes.packed.dtype == torch.uint8
        assert codes.shape == (200, width)
        assert float((codes[:] * rotated(units)).sum(1).min()) > least


def test_a_row_has_the_same_code_in_any_batch():
    units = directions(300, 64)
    whole = Codes.of(units, 4).packed
    for start, stop in ((0, 1), (7, 9), (100, 300)):
        assert torch.equal(Codes.of(units[start:stop], 4).packed, whole[start:stop])


def test_rows_are_taken_as_of_the_tensor():
    codes = Codes.of(directions(30, 5), 4)
    index = torch.tensor([[3, 4], [29, 0]])
    assert torch.equal(codes[index], codes[:][index])
    assert torch.equal(codes[4:9], codes[:][4:9])
    assert len(codes[torch.zeros(0, dtype=torch.int64)]) == 0


def test_a_zero_vector_has_a_code():
    assert bool(Codes.of(torch.zeros(2, 6), 4)[:].isfinite().all())


@pytest.mark.parametrize("k", [1, 5])
def test_the_distance_is_that_to_what_the_codes_stand_for(k):
    units, queries = directions(540, 48).split([500, 40])
    zero = torch.zeros(500, dtype=torch.float64)
    codes = Codes.of(units, 4)
    query = Polar(rotated(queries), torch.zeros(40, dtype=torch.float64))
    found = kth_distance(query, Bank(CodedPolar(codes, zero)), k)
    expected = torch.cdist(rotated(queries.double()), codes[:].double()).sort(1).values[:, k - 1]
    assert torch.allclose(found, expected, atol=1e-6)
    exact = torch.cdist(queries.double(), units.double()).sort(1).values[:, k - 1]
    assert float((found - exact).abs().max()) < 0.1


def coded_vectors(rows, width, bits=4):
    units = directions(rows, width)
    length = torch.rand(rows, generator=torch.Generator().manual_seed(1)) + 0.5
    return CodedVectors(Codes.of(units, bits), length)


def test_turned_directions_are_coded_as_they_are():
    units = directions(20, 24)
    assert torch.equal(Codes.of(rotated(units), 4, turned=True).packed, Codes.of(units, 4).packed)


def test_guidance_by_what_the_codes_stand_for(monkeypatch):
    guides, query = coded_vectors(50, 12), rotated(directions(9, 12).double())
    products = query.float() @ (guides.codes[:] * guides.length[:, None]).T
    expected = products.double().sort(1, descending=True).values[:, :4].mean(1)
    monkeypatch.setattr(nnguide, "_DECODED", 7)
    assert torch.allclose(guidance(query, guides, 4), expected, atol=1e-7)
    followed = query.clone().requires_grad_()
    found = guidance(followed, guides, 4)
    assert torch.allclose(found, expected, atol=1e-6)
    (slope,) = torch.autograd.grad(found.sum(), followed)
    nearest = guides[nearest_guides(query, guides, 4)].double().mean(1)
    assert torch.allclose(slope, nearest, atol=1e-6)


def test_gradients_of_what_the_codes_stand_for():
    features, means = coded_vectors(30, 16, 8), 3 * directions(6, 16).double()
    found = coded_gradients(features, means[:5], means[5])
    turn = rotated(torch.eye(16, dtype=torch.float64))
    straight = ood_gradient(features[:].double() @ turn.T, means[:5], means[5])
    assert torch.allclose(found.log_length, straight.log_length, atol=1e-6)
    assert float((found.unit[:] * rotated(straight.unit)).sum(1).min()) > 0.999


def test_no_rows_have_no_codes():
    assert Codes.of(torch.zeros(0, 6), 4).packed.shape == (0, 3)
