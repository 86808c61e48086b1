import pytest
import torch
from torch import Tensor, nn

from gradood.testing._snapshot import Snapshot
from gradood.training._robustness import (
    Attack,
    certified_radius,
    energies,
    fpr_under,
    gradient_norms,
    perturbed,
)


class Slope(nn.Module):
    """Two equal logits, a·x: the energy is −a·x − log 2, whose slope is ‖a‖ everywhere."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Parameter(torch.tensor([3.0, 4.0], dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        return (x @ self.a)[:, None].expand(-1, 2)


X = torch.tensor([[1.0, 0.0], [0.0, 2.0], [-1.0, 1.0]], dtype=torch.float64)


def test_the_gradient_of_a_linear_score_is_its_slope():
    model = Slope().train()
    before = Snapshot(model)
    assert gradient_norms(model, X).tolist() == pytest.approx([5.0] * 3)
    assert before.changes() == []


def test_an_attack_moves_by_the_radius_along_the_slope():
    model = Slope()
    for rise, sign in ((True, 1), (False, -1)):
        moved = perturbed(model, X, radius=0.5, rise=rise, attack=Attack())
        assert (moved - X).norm(dim=1).tolist() == pytest.approx([0.5] * 3)
        change = energies(model, moved) - energies(model, X)
        assert change.tolist() == pytest.approx([sign * 2.5] * 3)
    there = perturbed(model, X, radius=0.5, rise=True, attack=Attack(kind="random"))
    assert (there - X).norm(dim=1).tolist() == pytest.approx([0.5] * 3)
    assert perturbed(model, X, radius=0.0, rise=True, attack=Attack()) is X


def test_the_certified_radius_of_a_linear_score_is_its_distance():
    model = Slope()
    scores = energies(model, X)
    threshold = float(scores.max()) - 0.5
    found = certified_radius(model, X, threshold=threshold, radius=0.4, known=True)
    expected = [min(0.4, max(0.0, (threshold - s) / 5.0)) for s in scores.tolist()]
    assert found.lipschitz.tolist() == pytest.approx([5.0] * 3)
    assert found.radius.tolist() == pytest.approx(expected)
    assert 0.0 in expected and 0.4 in expected
    outliers = certified_radius(model, X, threshold=threshold, radius=0.4, known=False)
    assert outliers.radius.tolist() == pytest.approx([0.0, 0.0, 0.1])


def test_each_sample_may_have_a_radius_of_its_own():
    model = Slope()
    radii = torch.tensor([0.0, 0.25, 1.0], dtype=torch.float64)
    for attack in (Attack(), Attack(kind="random")):
        moved = perturbed(model, X, radius=radii, rise=True, attack=attack)
        assert (moved - X).norm(dim=1).tolist() == pytest.approx(radii.tolist())
    # Within its certified radius no sample of a linear score changes sides; beyond it, it does.
    threshold = float(energies(model, X).max()) + 0.5
    found = certified_radius(model, X, threshold=threshold, radius=9.0, known=True).radius
    for share, turned in ((0.999, False), (1.001, True)):
        moved = perturbed(model, X, radius=share * found, rise=True, attack=Attack())
        assert ((energies(model, moved) > threshold) == turned).all()


def test_fpr_rises_with_the_radius():
    torch.manual_seed(0)
    model = Slope()
    known = torch.randn(200, 2).double() * 0.2 + torch.tensor([1.0, 1.0])
    outliers = -torch.randn(200, 2).double() * 0.2
    rates = [
        fpr_under(model, known, outliers, radius=radius, attack=Attack())
        for radius in (0.0, 0.5, 1.5)
    ]
    assert rates[0] < 0.1 < rates[1] < rates[2]
    random = fpr_under(model, known, outliers, radius=0.5, attack=Attack(kind="random"))
    assert random < rates[1]
