"""A content key depends on a sample's bytes alone."""

import pytest
import torch

from gradood.evidence import content_keys

DTYPES = [
    torch.float32,
    torch.float64,
    torch.float16,
    torch.bfloat16,
    torch.uint8,
    torch.int64,
    torch.bool,
]


def inputs(dtype, n=12):
    x = torch.randn(n, 3, 5, 4, generator=torch.Generator().manual_seed(5)) * 10
    return x > 0 if dtype is torch.bool else x.abs().to(dtype)


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_same_in_any_batch_order_and_layout(dtype):
    x = inputs(dtype)
    keys = content_keys(x)
    assert keys.dtype == torch.int64 and keys.shape == (12,)
    assert len(keys.unique()) == 12
    for size in (1, 5, 12):
        assert torch.equal(torch.cat([content_keys(part) for part in x.split(size)]), keys)
    order = torch.randperm(12)
    assert torch.equal(content_keys(x[order]), keys[order])
    assert torch.equal(content_keys(x.contiguous(memory_format=torch.channels_last)), keys)
    assert torch.equal(content_keys(x.mT.contiguous().mT), keys)
    assert torch.equal(content_keys(x.repeat_interleave(2, 0)[::2]), keys)


@pytest.mark.parametrize(
    ("dtype", "bits"),
    [(torch.float64, torch.int64), (torch.float32, torch.int32), (torch.float16, torch.int16)],
)
def test_one_bit_makes_another_key(dtype, bits):
    x = inputs(dtype, 1).repeat(61, 1, 1, 1)
    flat = x.view(61, 60).view(bits)
    for i in range(60):
        flat[i, i] ^= 1
    assert len(content_keys(x).unique()) == 61


def test_exchanged_values_and_signed_zeros_make_other_keys():
    x = torch.zeros(4, 6)
    x[0, 0], x[1, 1], x[2, 2] = 1.0, 1.0, -0.0
    assert len(content_keys(x).unique()) == 4


def test_bits_are_spread():
    """Seeded samples take the smallest keys, so keys of similar inputs must look random."""
    keys = content_keys(torch.arange(20_000, dtype=torch.float32)[:, None])
    assert len(keys.unique()) == 20_000
    for shift in (0, 13, 31, 47, 63):
        share = float(((keys >> shift) & 1).double().mean())
        assert abs(share - 0.5) < 0.02


def test_large_rows_one_dimension_and_none():
    x = torch.randn(3, 2_200_000)
    assert torch.equal(content_keys(x)[1:2], content_keys(x[1:2]))
    assert content_keys(torch.arange(4)).shape == (4,)
    assert content_keys(torch.empty(0, 3, 4, 4)).shape == (0,)
