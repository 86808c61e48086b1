"""Each reduction against a plain transcription, in every memory layout."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from gradood.evidence import (
    MAP,
    MEAN,
    NONZERO_SHARE,
    POSITIONS,
    POSITIVE_SHARE,
    max_pooled_share,
    summaries,
)

NAIVE = {
    "positive share": lambda v: float((v > 0).double().mean()),
    "nonzero share": lambda v: float((v != 0).double().mean()),
    "mean": lambda v: float(v.double().mean()),
}


def layouts():
    x = torch.randn(7, 5, 6, 4, generator=torch.Generator().manual_seed(6)).clamp_min(-0.3)
    x[x.abs() < 0.3] = 0.0
    tokens = x.flatten(2).transpose(1, 2)
    return {
        "contiguous": (x, 1),
        "channels last": (x.contiguous(memory_format=torch.channels_last), 1),
        "permuted": (x.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2), 1),
        "sliced": (x.repeat(1, 2, 1, 2)[:, ::2, :, ::2], 1),
        "tokens": (tokens.contiguous(), 2),
        "tokens, transposed": (tokens, 2),
        "channels in the last of four": (x.permute(0, 2, 3, 1).contiguous(), 3),
        "one dimension": (x[..., 0].contiguous(), 1),
        "vectors": (x[:, :, 0, 0].contiguous(), 1),
        "one position": (x[:, :, :1, :1].contiguous(), 1),
        "single row": (x[:1], 1),
        "double": (x.double(), 1),
        "half": (x.half(), 1),
        "bfloat16": (x.bfloat16(), 1),
    }


@pytest.mark.parametrize(
    ("chunk", "few"),
    [(1 << 20, 0), (100, 0), (1 << 20, 1 << 15)],
    ids=["one chunk", "larger than a chunk", "few elements"],
)
@pytest.mark.parametrize("name", layouts())
@pytest.mark.parametrize("summary", [POSITIVE_SHARE, NONZERO_SHARE, MEAN], ids=lambda s: s.name)
def test_equal_to_the_plain_loop(summary, name, chunk, few, monkeypatch):
    monkeypatch.setattr(summaries, "_CHUNK", chunk)
    monkeypatch.setattr(summaries, "_FEW", few)
    monkeypatch.setattr(summaries, "_SCRATCH", type(summaries._SCRATCH)())
    tensor, channels = layouts()[name]
    before = tensor.clone()
    found = summary.reduce(tensor, channels)
    assert found.shape == (len(tensor), tensor.shape[channels])
    assert found.dtype == (torch.float64 if name == "double" and summary is MEAN else torch.float32)
    for row in range(len(tensor)):
        for channel in range(tensor.shape[channels]):
            expected = NAIVE[summary.name](tensor.select(channels, channel)[row])
            assert float(found[row, channel]) == pytest.approx(expected, rel=1e-5, abs=1e-6)
    assert torch.equal(tensor, before)
    assert not found.requires_grad


@pytest.mark.parametrize("name", layouts())
@pytest.mark.parametrize("summary", [POSITIVE_SHARE, NONZERO_SHARE], ids=lambda s: s.name)
def test_shares_of_few_elements_have_the_bits_of_those_of_many(summary, name, monkeypatch):
    tensor, channels = layouts()[name]
    few = summary.reduce(tensor, channels)
    monkeypatch.setattr(summaries, "_FEW", 0)
    assert torch.equal(summary.reduce(tensor, channels), few)


def test_the_number_of_positions_and_the_map():
    tensor = torch.randn(3, 5, 6, 4, requires_grad=True)
    assert POSITIONS.reduce(tensor, 1).tolist() == [24.0] * 3
    assert POSITIONS.reduce(tensor.detach().flatten(2).mT, 2).tolist() == [24.0] * 3
    assert POSITIONS.reduce(tensor.detach()[..., 0, 0], 1).tolist() == [1.0] * 3
    kept = MAP.reduce(tensor, 1)
    assert torch.equal(kept, tensor.detach()) and not kept.requires_grad
    assert kept.data_ptr() != tensor.data_ptr()


def test_nan_is_not_positive_and_not_zero():
    tensor = torch.full((1, 1, 2, 2), torch.nan)
    assert float(POSITIVE_SHARE.reduce(tensor, 1)) == 0.0
    assert float(NONZERO_SHARE.reduce(tensor, 1)) == 1.0


POOLS = [
    nn.MaxPool2d(2),
    nn.MaxPool2d(3, stride=2, padding=1),
    nn.MaxPool2d(3, stride=1),
    nn.MaxPool2d(2, dilation=2),
    nn.MaxPool2d((3, 2), ceil_mode=True),
]


@pytest.mark.parametrize("after_relu", [False, True])
@pytest.mark.parametrize("pool", POOLS, ids=str)
def test_max_pooled_share_is_the_share_of_nonzero_gradients(pool, after_relu):
    x = torch.randn(6, 4, 9, 9)
    given = torch.relu(x) if after_relu else x
    leaf = x.clone().requires_grad_()
    weights = torch.rand(1000)
    out = pool(F.relu(leaf))
    (out.flatten() * weights.repeat(100)[: out.numel()].add(0.1)).sum().backward()
    expected = (leaf.grad != 0).double().mean((2, 3))
    found = max_pooled_share(pool).reduce(given, 1)
    torch.testing.assert_close(found.double(), expected)


def test_pools_of_other_settings_are_other_summaries():
    assert max_pooled_share(POOLS[0]) == max_pooled_share(nn.MaxPool2d(2))
    assert len({max_pooled_share(pool) for pool in POOLS}) == len(POOLS)
