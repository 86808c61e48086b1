"""Codes of directions: a rotation that keeps distances, and 4 bits per number."""

import pytest
import torch

from gradood.functional.codes import Codes, rotated
from gradood.functional.neighbors import Bank, CodedPolar, Polar, kth_distance, polar

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
def test_codes_are_close_and_take_half_a_byte(width):
    units = directions(200, width)
    codes = Codes.of(units)
    assert codes.packed.shape == (200, (width + 1) // 2)
    assert codes.packed.dtype == torch.uint8
    assert codes.shape == (200, width)
    assert float((codes[:] * rotated(units)).sum(1).min()) > 0.97


def test_a_row_has_the_same_code_in_any_batch():
    units = directions(300, 64)
    whole = Codes.of(units).packed
    for start, stop in ((0, 1), (7, 9), (100, 300)):
        assert torch.equal(Codes.of(units[start:stop]).packed, whole[start:stop])


def test_rows_are_taken_as_of_the_tensor():
    codes = Codes.of(directions(30, 5))
    index = torch.tensor([[3, 4], [29, 0]])
    assert torch.equal(codes[index], codes[:][index])
    assert torch.equal(codes[4:9], codes[:][4:9])
    assert len(codes[torch.zeros(0, dtype=torch.int64)]) == 0


def test_a_zero_vector_has_a_code():
    assert bool(Codes.of(torch.zeros(2, 6))[:].isfinite().all())


@pytest.mark.parametrize("k", [1, 5])
def test_the_distance_is_that_to_what_the_codes_stand_for(k):
    units, queries = directions(540, 48).split([500, 40])
    zero = torch.zeros(500, dtype=torch.float64)
    codes = Codes.of(units)
    query = Polar(rotated(queries), torch.zeros(40, dtype=torch.float64))
    found = kth_distance(query, Bank(CodedPolar(codes, zero)), k)
    expected = torch.cdist(rotated(queries.double()), codes[:].double()).sort(1).values[:, k - 1]
    assert torch.allclose(found, expected, atol=1e-6)
    exact = torch.cdist(queries.double(), units.double()).sort(1).values[:, k - 1]
    assert float((found - exact).abs().max()) < 0.1
