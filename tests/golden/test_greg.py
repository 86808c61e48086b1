"""GReg against a naive oracle: the whole Jacobian of the energies, in loops, in float64."""

import math

import pytest
import torch
from torch import Tensor, nn

from gradood.functional.logits import energy
from gradood.training import EnergyMarginLoss, InputGradientPenalty
from gradood.training._forward import Objective, PartBatch
from gradood.training._kernels import differentiable_kernels
from gradood.training._terms import Gradient, Loss, Margin

N_ID, N_AUX = 4, 3
EXACT = {"rtol": 1e-12, "atol": 1e-12}


def network(*, training: bool) -> nn.Module:
    """Two convolutions with batch norms; in training mode they couple the rows of a batch."""
    torch.manual_seed(3)
    net = nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Conv2d(4, 5, 3),
        nn.BatchNorm2d(5),
        nn.Tanh(),
        nn.Flatten(),
        nn.Linear(20, 3),
    ).double()
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.bias, -0.5, 0.5)
    return net.train(training)


def inputs() -> Tensor:
    torch.manual_seed(5)
    return torch.randn(N_ID + N_AUX, 2, 4, 4, dtype=torch.float64)


def margins(net: nn.Module, x: Tensor) -> tuple[float, float]:
    """So that some rows of each kind are active, and some are not."""
    state = {name: value.clone() for name, value in net.state_dict().items()}
    values = naive_energies(net, x).detach().tolist()
    net.load_state_dict(state)
    known, outliers = sorted(values[:N_ID]), sorted(values[N_ID:])
    m_in, m_out = (known[1] + known[2]) / 2, (outliers[1] + outliers[2]) / 2
    return (m_in, m_out) if m_in < m_out else (m_out - 1e-3, m_out)


def naive_energies(net: nn.Module, x: Tensor) -> Tensor:
    rows = [sum((z.exp() for z in row), start=torch.zeros(()).double()) for row in net(x)]
    return torch.stack([-row.log() for row in rows])


def naive_penalty(net: nn.Module, x: Tensor, m_in: float, m_out: float, reduction: str) -> Tensor:
    """From ∂E_i/∂x_j for all i and j, as the definition reads."""
    jacobian = torch.autograd.functional.jacobian(
        lambda x: naive_energies(net, x), x, create_graph=True
    )
    energies = naive_energies(net, x).detach().tolist()
    count = len(energies)
    active = [energies[i] <= m_in if i < N_ID else energies[i] >= m_out for i in range(count)]
    total = torch.zeros((), dtype=torch.float64)
    for j in range(count):
        if not active[j]:
            continue
        gradient = torch.zeros_like(x[0])
        for i in range(count):
            if reduction == "released":
                gradient = gradient + jacobian[i, j] / count
            elif active[i]:
                gradient = gradient + jacobian[i, j]
        norm = sum((g * g for g in gradient.flatten()), start=torch.zeros(()).double()).sqrt()
        total = total + norm / (N_ID if j < N_ID else N_AUX)
    return total


def ours(net: nn.Module, x: Tensor, m_in: float, m_out: float, reduction: str) -> Tensor:
    x = x.clone().requires_grad_()
    loss = InputGradientPenalty(m_in=m_in, m_out=m_out, reduction=reduction)
    return loss(energy(net(x)), x, n_id=N_ID)


def parameter_gradients(value: Tensor, net: nn.Module) -> list[Tensor]:
    found = torch.autograd.grad(value, list(net.parameters()), allow_unused=True)
    return [torch.zeros(()) if gradient is None else gradient for gradient in found]


@pytest.mark.parametrize("training", [True, False], ids=["coupled", "frozen"])
@pytest.mark.parametrize("reduction", ["released", "paper"])
def test_value_and_parameter_gradient_equal_the_jacobian_oracle(training, reduction):
    net, x = network(training=training), inputs()
    m_in, m_out = margins(net, x)
    got = ours(net, x, m_in, m_out, reduction)
    expected = naive_penalty(net, x, m_in, m_out, reduction)
    assert float(expected.detach()) > 1e-3
    torch.testing.assert_close(got, expected, **EXACT)
    for a, b in zip(parameter_gradients(got, net), parameter_gradients(expected, net), strict=True):
        torch.testing.assert_close(a, b, **EXACT)


@pytest.mark.parametrize("training", [True, False], ids=["coupled", "frozen"])
@pytest.mark.parametrize("reduction", ["released", "paper"])
def test_the_kernels_of_training_equal_the_jacobian_oracle(training, reduction):
    net, x = network(training=training), inputs()
    m_in, m_out = margins(net, x)
    with differentiable_kernels():
        got = ours(net, x, m_in, m_out, reduction)
    expected = naive_penalty(net, x, m_in, m_out, reduction)
    torch.testing.assert_close(got, expected, **EXACT)
    for a, b in zip(parameter_gradients(got, net), parameter_gradients(expected, net), strict=True):
        torch.testing.assert_close(a, b, **EXACT)


def test_released_is_paper_over_the_batch_size_without_coupling_and_not_with_it():
    x = inputs()
    for training in (False, True):
        net = network(training=training)
        limits = margins(net, x)
        released, paper = (ours(net, x, *limits, reduction) for reduction in ("released", "paper"))
        ratio = float((paper / released).detach()) / (N_ID + N_AUX)
        assert (abs(ratio - 1) < 1e-12) is not training


def test_inactive_rows_count_as_zero_in_the_means():
    """All active against one active: the mean is over all rows of the kind all the same."""
    x = torch.eye(3, dtype=torch.float64).requires_grad_()
    energies = 2.0 * x.sum(1) + torch.tensor([0.0, 5.0, 9.0], dtype=torch.float64)
    loss = InputGradientPenalty(m_in=3.0, m_out=4.0, reduction="paper")
    norm = 2 * math.sqrt(3)
    assert float(loss(energies, x, n_id=2).detach()) == pytest.approx(norm / 2 + norm)
    assert float(loss(energies, x, n_id=3).detach()) == pytest.approx(norm / 3)


def test_no_active_row_is_exactly_zero_and_differentiates_nothing_twice(monkeypatch):
    net, x = network(training=True), inputs().requires_grad_()
    energies = energy(net(x))
    monkeypatch.setattr(torch.autograd, "grad", lambda *a, **k: pytest.fail("a second derivative"))
    loss = InputGradientPenalty(m_in=-1e6, m_out=1e6)
    found = loss(energies, x, n_id=N_ID)
    assert float(found.detach()) == 0.0
    found.backward()
    for tensor in (x, *net.parameters()):
        assert tensor.grad is not None and bool(tensor.grad.eq(0).all())


@pytest.mark.parametrize("far", [math.inf, 1e200])
@pytest.mark.parametrize("reduction", ["released", "paper"])
def test_infinite_energies_without_an_active_row_have_a_gradient_of_zero(far, reduction):
    net, x = network(training=False), inputs().requires_grad_()
    with torch.no_grad():
        net[-1].bias[0] = far  # The gradient of the energy is then not a number, or 0.
    energies = -energy(net(x))
    loss = InputGradientPenalty(m_in=-1e6, m_out=1e300, reduction=reduction)
    found = loss(energies, x, n_id=N_ID + N_AUX)
    assert float(found.detach()) == 0.0
    found.backward()
    for tensor in (x, *net.parameters()):
        assert tensor.grad is not None and bool(tensor.grad.eq(0).all())


def test_a_penalty_without_an_active_row_adds_nothing_to_the_gradient_of_other_terms():
    net, x = network(training=True), inputs()
    plain = parameter_gradients(energy(net(x)).square().mean(), net)
    given = x.clone().requires_grad_()
    energies = energy(net(given))
    penalty = InputGradientPenalty(m_in=-1e6, m_out=1e6)(energies, given, n_id=N_ID)
    both = parameter_gradients(energies.square().mean() + penalty, net)
    assert all(torch.equal(a, b) for a, b in zip(plain, both, strict=True))


@pytest.mark.parametrize("reduction", ["released", "paper"])
def test_rows_without_gradient_give_finite_parameter_gradients(reduction):
    """A row that no unit sees has a gradient of exactly zero, where a root has no slope."""
    net = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)).double()
    with torch.no_grad():
        net[0].weight.abs_()
        net[0].bias.zero_()
    x = torch.cat([-torch.ones(2, 3), torch.ones(2, 3)]).double().requires_grad_()
    energies = energy(net(x))
    loss = InputGradientPenalty(m_in=1e3, m_out=1e3 + 1, reduction=reduction)
    value = loss(torch.cat([energies[:3], energies[3:] + 2e3]), x, n_id=3)
    assert float(value.detach()) > 0
    assert all(bool(g.isfinite().all()) for g in parameter_gradients(value, net))


def test_parts_of_a_batch_add_up_to_it_without_coupling():
    net, x = network(training=False), inputs()[: 2 * 3]
    limits = margins(net, inputs())
    loss = InputGradientPenalty(m_in=limits[0], m_out=limits[1])

    def part(rows: list[int]) -> float:
        chosen = x[rows].clone().requires_grad_()
        return float(loss(energy(net(chosen)), chosen, n_id=len(rows) // 2, total=6).detach())

    whole = part([0, 1, 2, 3, 4, 5])
    parts = part([0, 3]) / 3 + 2 * part([1, 2, 4, 5]) / 3
    assert parts == pytest.approx(whole, rel=1e-12)


@pytest.mark.parametrize("training", [True, False], ids=["coupled", "frozen"])
def test_the_whole_objective_equals_its_naive_sum(training):
    net, x = network(training=training), inputs()
    m_in, m_out = margins(net, x)
    labels = torch.tensor([0, 2, 1, 1])
    given = x.clone().requires_grad_()
    objective = Objective(
        Loss(
            margin=Margin(weight=0.1, m_in=m_in, m_out=m_out),
            gradient=Gradient(weight=1.5, m_in=m_in, m_out=m_out),
        )
    )
    batch = PartBatch(x=given, labels=labels, total=7, total_id=4, point=given)
    got, _ = objective(net(given), batch)
    energies, logits = naive_energies(net, x), net(x)
    expected = 1.5 * naive_penalty(net, x, m_in, m_out, "released")
    for i in range(N_ID):
        expected = expected + (-energies[i] - logits[i, labels[i]]) / N_ID
        expected = expected + 0.1 * max(energies[i] - m_in, 0 * energies[i]) ** 2 / N_ID
    for i in range(N_ID, N_ID + N_AUX):
        expected = expected + 0.1 * max(m_out - energies[i], 0 * energies[i]) ** 2 / N_AUX
    torch.testing.assert_close(got, expected, **EXACT)
    for a, b in zip(parameter_gradients(got, net), parameter_gradients(expected, net), strict=True):
        torch.testing.assert_close(a, b, **EXACT)


def test_the_margin_loss_of_known_numbers():
    loss = EnergyMarginLoss(m_in=-25.0, m_out=-7.0)
    energies = torch.tensor([-26.0, -24.0, -22.0, -8.0, -7.0], dtype=torch.float64)
    assert float(loss(energies, n_id=3)) == pytest.approx((1 + 9) / 3 + 1 / 2)
