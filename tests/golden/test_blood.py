"""BLOOD against Jacobians by finite steps along every coordinate, and by autograd row by row."""

from itertools import pairwise

import pytest
import torch
from package import same
from torch import Tensor, nn

import gradood
from gradood.evidence import JacobianNorm, gather
from gradood.taps import observe

WIDTH, TOKENS = 6, 5


class Block(nn.Module):
    def __init__(self, tuples: bool) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(WIDTH)
        self.attention = nn.MultiheadAttention(WIDTH, 2, batch_first=True)
        self.inner, self.outer = nn.Linear(WIDTH, 9), nn.Linear(9, WIDTH)
        self.tuples = tuples

    def forward(self, x: Tensor, away: Tensor | None = None) -> Tensor | tuple[Tensor, None]:
        y = self.norm(x)
        x = x + self.attention(y, y, y, key_padding_mask=away, need_weights=False)[0]
        x = x + self.outer(torch.tanh(self.inner(x)))
        return (x, None) if self.tuples else x


class Text(nn.Module):
    """Token ids, three blocks, and the first, the last unpadded or the mean of the tokens."""

    def __init__(self, pooling: str, tuples: bool = False) -> None:
        super().__init__()
        self.embedding = nn.Embedding(20, WIDTH)
        self.layers = nn.ModuleList(Block(tuples) for _ in range(3))
        self.final = nn.LayerNorm(WIDTH)
        self.head = nn.Linear(WIDTH, 3)
        self.pooling = pooling

    def forward(self, ids: Tensor) -> Tensor:
        known = ids > 0
        h = self.embedding(ids)
        for layer in self.layers:
            h = layer(h, ~known)
            h = h[0] if isinstance(h, tuple) else h
        h = self.final(h)
        if self.pooling == "first":
            return self.head(h[:, 0])
        if self.pooling == "last":
            return self.head(h[torch.arange(len(h)), known.sum(1) - 1])
        return self.head((h * known[:, :, None]).sum(1) / known.sum(1, keepdim=True))


def text(pooling: str, tuples: bool = False) -> Text:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        return Text(pooling, tuples).double().eval()


def ids() -> Tensor:
    rows = torch.randint(1, 20, (4, TOKENS), generator=torch.Generator().manual_seed(6))
    rows[1, 3:] = 0
    rows[2, 1:] = 0
    return rows


def places(row: Tensor, pooling: str) -> list[int]:
    count = int((row > 0).sum())
    return {"first": [0], "last": [count - 1], "mean": list(range(count))}[pooling]


@torch.no_grad()
def naive(model: Text, rows: Tensor, pooling: str) -> Tensor:
    """‖J‖_F² of every pair of blocks, by central differences of each coordinate."""
    step, found = 1e-6, []
    for row in rows:
        row = row[None]
        where, away = places(row[0], pooling), row == 0
        h, norms = model.embedding(row), []
        for i, layer in enumerate(model.layers):
            if i:
                total = 0.0
                for unit in torch.eye(WIDTH, dtype=torch.float64):
                    moved = torch.zeros_like(h)
                    moved[:, where] = step * unit
                    ends = [layer(h + s * moved, away) for s in (1, -1)]
                    ends = [end[0] if isinstance(end, tuple) else end for end in ends]
                    slope = (ends[0] - ends[1])[0, where].mean(0) / (2 * step)
                    total += float(slope.square().sum())
                norms.append(total)
            h = layer(h, away)
            h = h[0] if isinstance(h, tuple) else h
        found.append(norms)
    return torch.tensor(found, dtype=torch.float64)


@pytest.mark.parametrize("tuples", [False, True])
@pytest.mark.parametrize("pooling", ["first", "last", "mean"])
def test_exact_norms_are_those_by_finite_differences(pooling, tuples):
    model, rows = text(pooling, tuples), ids()
    expected = naive(model, rows, pooling)
    for pairs, value in (("last", expected[:, -1]), ("mean", expected.mean(1))):
        detector = gradood.BLOOD(pairs=pairs, samples="exact")
        same(gradood.Monitor(model, detector).score(rows), value, relative=1e-7)


def test_padding_and_the_batch_change_nothing():
    for pooling in ("first", "last", "mean"):
        model, rows = text(pooling), ids()
        monitor = gradood.Monitor(model, gradood.BLOOD(pairs="mean"))
        scores = monitor.score(rows)
        longer = torch.cat([rows, torch.zeros(4, 3, dtype=torch.int64)], 1)
        same(monitor.score(longer), scores, relative=1e-9)
        alone = [monitor.score(row[None, : int((row > 0).sum())]) for row in rows]
        same(torch.cat(alone), scores, relative=1e-9)
        same(monitor.score(rows.flip(0)).flip(0), scores, relative=1e-9)


def jacobian(model: Text, row: Tensor) -> Tensor:
    """Of the last block at the first token, by autograd on that block alone."""
    with torch.no_grad():
        h = model.embedding(row[None])
        for layer in model.layers[:-1]:
            h = layer(h, row[None] == 0)

    def first(token: Tensor) -> Tensor:
        return model.layers[-1](torch.cat([token[None, None], h[:, 1:]], 1), row[None] == 0)[0, 0]

    return torch.autograd.functional.jacobian(first, h[0, 0])


def test_estimates_are_the_formulas_of_the_same_draws():
    model, rows = text("first"), ids()
    monitor = gradood.Monitor(model, gradood.BLOOD(samples=4))
    paper = gradood.Monitor(model, gradood.BLOOD(samples=4, projections="two-sided"))
    one, two = [], []
    for row in rows:
        J = jacobian(model, row)
        draws = torch.Generator().manual_seed(0)
        left = [torch.randn(WIDTH, generator=draws, dtype=torch.float64) for _ in range(4)]
        one.append(sum(float((v @ J).square().sum()) for v in left) / 4)
        draws = torch.Generator().manual_seed(0)
        both = [torch.randn(2 * WIDTH, generator=draws, dtype=torch.float64) for _ in range(4)]
        two.append(sum(float(d[:WIDTH] @ J @ d[WIDTH:]) ** 2 for d in both) / 4)
    same(monitor.score(rows), one)
    same(paper.score(rows), two)


def test_both_estimates_have_the_norm_as_their_mean_and_one_side_less_variance():
    """Over the draws; within five standard errors."""
    model, row = text("first"), ids()[:1]
    network = observe(model, ids())
    sites = tuple(network.layer(f"layers.{i}").output for i in (1, 2))
    exact = float(gather(network, row, [r := JacobianNorm(sites, sites[-1], None)])[r])
    deviations = []
    for two_sided in (False, True):
        J = jacobian(model, row[0])
        draws = torch.randn(2, 4000, WIDTH, generator=torch.Generator().manual_seed(7)).double()
        rows = draws[0] @ J
        each = (rows * draws[1]).sum(1).square() if two_sided else rows.square().sum(1)
        deviations.append(float(each.std()))
        assert abs(float(each.mean()) - exact) < 5 * deviations[-1] / 4000**0.5
        many = JacobianNorm(sites, sites[-1], 1000, two_sided)
        found = float(gather(network, row, [many])[many])
        assert abs(found - exact) < 5 * deviations[-1] / 1000**0.5
    assert deviations[0] < 0.8 * deviations[1]


def test_maps_between_the_stages_of_a_convolutional_network_are_taken_whole():
    class Stages(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem = nn.Conv2d(2, 3, 3)
            self.stage1 = self.stage(3, 4)
            self.stage2 = self.stage(4, 5)
            self.head = nn.Linear(5, 3)

        @staticmethod
        def stage(given: int, made: int) -> nn.Module:
            layers = (nn.Conv2d(given, made, 3), nn.BatchNorm2d(made), nn.Tanh())
            return nn.Sequential(*layers, nn.Conv2d(made, made, 2), nn.BatchNorm2d(made), nn.Tanh())

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.stage2(self.stage1(self.stem(x))).mean((2, 3)))

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(8)
        model = Stages().double().eval()
    x = torch.randn(3, 2, 11, 11, generator=torch.Generator().manual_seed(9)).double()
    scores = gradood.Monitor(model, gradood.BLOOD(samples="exact")).score(x)
    expected = []
    for row in x:
        first = model.stage1(model.stem(row[None])).detach()
        J = torch.autograd.functional.jacobian(model.stage2, first)
        expected.append(float(J.square().sum()))
    same(scores, expected)


class Convolved(nn.Module):
    """Convolutions over a wave, more of them than the blocks that attend after them."""

    def __init__(self):
        super().__init__()
        sizes = (1, 8, 8, 8)
        self.convolutions = nn.ModuleList(
            nn.Sequential(nn.Conv1d(a, b, 5, 2), nn.GELU()) for a, b in pairwise(sizes)
        )
        layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
        self.blocks = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(8, 3)

    def forward(self, wave):
        x = wave[:, None]
        for convolution in self.convolutions:
            x = convolution(x)
        return self.head(self.blocks(x.mT).mean(1))


def test_blocks_are_those_that_attend_where_convolutions_are_as_many():
    network = observe(Convolved().eval(), torch.randn(4, 200))
    (read,) = gradood.BLOOD().plan(network, torch.randn(2, 200)).reads
    assert [site.layer for site in read.sites] == ["blocks.layers.0", "blocks.layers.1"]
