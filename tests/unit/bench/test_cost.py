"""What each method costs, as a share of the plain forward pass."""

import pytest
import torch
from torch import nn

from gradood.bench import Sets, compare, select
from gradood.bench._cost import costs
from gradood.bench._demo import one_thread
from gradood.monitor.evaluation import Table


class Slow(nn.Module):
    """Wide enough for its forward to be most of any cheap method's time."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, 64, 3, padding=1), nn.BatchNorm2d(64), nn.ReLU(), nn.Conv2d(64, 64, 3)
        )
        self.norm, self.head = nn.BatchNorm2d(64), nn.Linear(64, 4)

    def forward(self, x):
        return self.head(self.norm(self.body(x)).relu().mean((2, 3)))


def test_methods_with_a_second_pass_cost_more_and_are_told_apart(capfd):
    torch.manual_seed(0)
    x = torch.rand(24, 3, 24, 24)
    chosen = select("energy,gradnorm,knn,odin", ["knn.k=3"]).detectors
    with one_thread():
        found = compare(Slow().eval(), chosen, Sets(id=x, ood={"a": x}, fit=x), x, level=None)
        cost = costs(found.detector_set, x, rounds=2)
    assert isinstance(found.table, Table) and list(cost) == list(chosen)
    assert {name: one["pass"] for name, one in cost.items()} == {
        **dict.fromkeys(("energy", "gradnorm", "knn"), "shared"),
        "odin": "own",
    }
    assert {name: one["fit_passes"] for name, one in cost.items()}["knn"] == 1
    assert cost["odin"]["time_ratio"] > 1.5 * cost["energy"]["time_ratio"]
    assert cost["odin"]["memory_ratio"] > cost["energy"]["memory_ratio"] > 0.9
    one = cost["energy"]
    assert one["seconds_per_image"] * len(x) == pytest.approx(
        cost["odin"]["seconds_per_image"] * len(x) * one["time_ratio"] / cost["odin"]["time_ratio"]
    )
    assert capfd.readouterr() == ("", "")
