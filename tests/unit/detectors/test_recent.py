"""Edges of the detectors of 2024 to 2026: ties, automatic settings, and fits that are refused."""

import math

import pytest
import torch
from torch import nn

import gradood
from gradood.errors import ConfigError, DataError, TapError
from gradood.functional.actsub import (
    balanced_dimension,
    balanced_power,
    insignificant_score,
    steady_percentile,
)
from gradood.functional.optfs import pooled_quantile, stepwise
from gradood.functional.ora import boundary_angle, squared_separations
from gradood.functional.ras import rank_shifted


def model(width: int = 6, classes: int = 3) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Identity(), nn.Linear(width, classes)).eval()


def features(rows: int, width: int = 6) -> torch.Tensor:
    return torch.rand(rows, width, generator=torch.Generator().manual_seed(1))


def test_equal_units_share_the_mean_of_their_ranks():
    profile = torch.tensor([1.0, 2.0, 4.0, 8.0]).double()
    rows = torch.tensor([[3.0, 0.0, 0.0, 5.0], [9.0, 9.0, 9.0, 9.0], [4.0, 3.0, 2.0, 1.0]])
    found = rank_shifted(rows.double(), profile)
    assert found.tolist() == [[4, 1.5, 1.5, 8], [3.75] * 4, [8, 4, 2, 1]]


def test_ranks_of_values_that_are_no_numbers_are_finite():
    rows = torch.tensor([[math.nan, 1.0, math.inf], [-math.inf, math.nan, math.nan]]).double()
    assert bool(rank_shifted(rows, torch.arange(3).double()).isfinite().all())


def test_an_angle_is_precise_however_small():
    """Head rows e_1 and 0, origin 0: the boundary is x_1 = 0, so tan θ = x_1 / x_2."""
    W = torch.tensor([[1.0, 0.0], [0.0, 0.0]]).double()
    for x in (1e-12, 1e-6, 1.0, 1e6):
        h = torch.tensor([[x, 1.0]]).double()
        found = boundary_angle(h @ W.T, h @ W.T, h.square().sum(1), squared_separations(W))
        assert float(found) == pytest.approx(math.atan(x), rel=1e-12)


@pytest.mark.parametrize(("classes", "largest"), [(2, 3), (10, 6), (20, 8), (100, 23), (1000, 101)])
def test_the_number_of_logits_follows_that_of_classes(classes, largest):
    assert gradood.LogitGap()._largest(classes) == largest


def test_a_gap_of_more_logits_than_there_are_is_that_of_all():
    x = features(5)
    all_of_them = gradood.Monitor(model(), gradood.LogitGap(N=3)).score(x)
    assert torch.equal(all_of_them, gradood.Monitor(model(), gradood.LogitGap(N=50)).score(x))


def test_both_parts_are_equally_long():
    """Half of the length of (1, 0, 0, 1) lies in the first direction, half outside."""
    moment = torch.diag(torch.tensor([4.0, 3.0, 2.0, 1.0]))
    rows = torch.tensor([[1.0, 0.0, 0.0, 1.0]]).repeat(5, 1)
    assert balanced_dimension(rows, moment) == 1
    assert balanced_dimension(rows[:, [2, 0, 1, 3]], torch.eye(4)) == 2


def test_a_sample_of_the_bank_is_not_its_own_neighbor():
    bank = torch.nn.functional.normalize(features(9).double())
    others = [insignificant_score(bank[i : i + 1], bank[torch.arange(9) != i], 3) for i in range(9)]
    found = insignificant_score(bank, bank, 3, own=True)
    torch.testing.assert_close(found, torch.cat(others), rtol=1e-9, atol=0)


def test_factors_that_do_not_vary_have_the_published_power():
    same, other = torch.full((4,), 2.0).double(), torch.tensor([1.0, 2.0, 3.0, 4.0]).double()
    assert balanced_power(same, other) == balanced_power(other, same) == 2.0
    assert balanced_power(other.square(), other) == pytest.approx(2.0)


def test_scaling_that_turns_the_order_over_is_left_out():
    """The larger the one active unit, the surer, and the sparser: SCALE favors even ones."""
    strong = torch.linspace(1, 3, 40).double()
    rows = torch.full((40, 20), 0.5).double()
    rows[:, 0] = strong
    W = torch.zeros(2, 20).double()
    W[0, 0] = 1.0
    assert steady_percentile(rows, W, None) < 95
    even = strong[:, None].expand(40, 20)
    assert steady_percentile(even, W, None) == 95
    assert steady_percentile(rows[:1], W, None) == 0


def test_values_outside_of_all_bins_are_zero():
    theta = torch.tensor([2.0, 3.0]).double()
    h = torch.tensor([[-1.0, 0.0, 0.4, 0.5, 0.9, 1.0, math.inf]])
    found = stepwise(h, theta, 0.0, 1.0)[0]
    torch.testing.assert_close(found, torch.tensor([0, 0, 0.8, 1.5, 2.7, 0, 0]).double())
    assert pooled_quantile(torch.tensor([[3.0, 1.0], [2.0, 4.0]]), 0.5) == 2.5


@pytest.mark.parametrize("name", ["ora", "optfs", "ras"])
def test_a_fit_of_constant_features_is_refused(name):
    with pytest.raises(DataError, match=name):
        gradood.Monitor(model(), name).fit([torch.ones(40, 6)])


def test_actsub_refuses_what_leaves_no_second_part():
    with pytest.raises(ConfigError, match="nothing insignificant"):
        gradood.Monitor(model(), gradood.ActSub(dimension=6)).fit([features(40)])
    with pytest.raises(TapError, match="one feature"):
        gradood.Monitor(model(1), "actsub").fit([features(40, 1)])
    with pytest.raises(DataError, match="k=10"):
        gradood.Monitor(model(), "actsub").fit([features(10)])
    for options in ({"dimension": 0}, {"lam": -1}, {"percentile": 100}, {"k": 3, "samples": 3}):
        with pytest.raises(ConfigError):
            gradood.ActSub(**options)


@pytest.mark.parametrize("name", ["actsub", "cadref", "caref", "optfs", "ora", "ras"])
def test_any_order_of_shards_gives_the_same_state(name):
    data = [(part,) for part in features(60).split(13)]
    monitor = gradood.Monitor(model(), name).fit([part for (part,) in data])
    once = dict(monitor.states[name])
    shards = [monitor.accumulate([part]) for (part,) in data]
    merged = shards[-1]
    for shard in shards[:-1]:
        merged = monitor.merge(merged, shard)
    monitor.finish(merged)
    for key, value in monitor.states[name].items():
        torch.testing.assert_close(value, once[key], rtol=1e-9, atol=1e-12)


def test_a_confidence_that_is_not_positive_counts_as_the_least():
    network = model()
    with torch.no_grad():
        network[1].bias.fill_(-50.0)
    scores = gradood.Monitor(network, "cadref").fit([features(40)]).score(features(7))
    assert bool(scores.isfinite().all())
