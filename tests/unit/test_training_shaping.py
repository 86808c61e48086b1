"""ISH: the gradient of the head's weight is taken by shaped features, and nothing else changes."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch.utils.data import TensorDataset

from gradood.errors import ConfigError
from gradood.training import Trainer, TrainingData, load_recipe
from gradood.training._terms import Gradient, Loss, Shaping
from gradood.training.losses import shaped_features, with_shaped_gradient


def naive(row, percentile, pruned):
    count = max(1, len(row) - round(len(row) * percentile / 100))
    kept = sorted(range(len(row)), key=lambda d: -abs(row[d]))[:count]
    factor = math.exp(sum(row) / sum(abs(row[d]) for d in kept))
    return [v * factor if d in kept or not pruned else 0.0 for d, v in enumerate(row)]


@pytest.mark.parametrize("pruned", [True, False])
@pytest.mark.parametrize("percentile", [0.0, 50.0, 85.0])
def test_the_weight_learns_by_shaped_features(percentile, pruned):
    g = torch.Generator().manual_seed(0)
    h = torch.rand(6, 20, generator=g, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(4, 20, generator=g, dtype=torch.float64, requires_grad=True)
    bias = torch.randn(4, generator=g, dtype=torch.float64, requires_grad=True)
    y = torch.tensor([0, 1, 2, 3, 0, 1])
    logits = F.linear(h, weight, bias)
    shaped = with_shaped_gradient(logits, h, weight, percentile=percentile, pruned=pruned)
    assert torch.equal(shaped, logits)
    plain = torch.autograd.grad(F.cross_entropy(logits, y), (h, bias), retain_graph=True)
    found = torch.autograd.grad(F.cross_entropy(shaped, y), (h, bias, weight))
    for a, b in zip(plain, found, strict=False):
        torch.testing.assert_close(a, b)
    error = torch.softmax(logits, 1) - F.one_hot(y, 4)
    rows = [naive(row, percentile, pruned) for row in h.tolist()]
    features = torch.tensor(rows, dtype=torch.float64)
    torch.testing.assert_close(found[2], error.T @ features / 6)


def test_a_row_of_zeros_stays_zero():
    assert not shaped_features(torch.zeros(2, 8), percentile=85.0, pruned=True).any()


def test_a_run_learns_by_them(tmp_path):
    """Where the loss is the same, the head learns otherwise, and the trunk as before."""
    g = torch.Generator().manual_seed(1)
    x, y = torch.rand(40, 3, 4, 4, generator=g), torch.arange(40) % 2

    def trained(method):
        torch.manual_seed(0)
        trunk = [torch.nn.Flatten(), torch.nn.Linear(48, 20), torch.nn.ReLU()]
        model = torch.nn.Sequential(*trunk, torch.nn.Linear(20, 2))
        changes = ["schedule.steps=1", "batch.id=32", "validation.id=8", "optimizer.lr=0.01"]
        recipe = load_recipe(method, [*changes, "optimizer.weight_decay=0.0"])
        Trainer(model, recipe, TrainingData(id=TensorDataset(x, y)), out=tmp_path / method).fit()
        return model

    plain, shaped = trained("plain"), trained("ish")
    torch.testing.assert_close(plain[1].weight, shaped[1].weight)
    assert not torch.equal(plain[3].weight, shaped[3].weight)


def test_the_recipe_and_what_it_refuses():
    assert load_recipe("ish").loss.shaping == Shaping(percentile=85, pruned=True)
    with pytest.raises(ConfigError, match="percentile=100"):
        Shaping(percentile=100)
    with pytest.raises(ConfigError, match="one of the two"):
        Loss(shaping=Shaping(), gradient=Gradient())
