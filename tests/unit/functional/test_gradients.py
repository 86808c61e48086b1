"""Closed forms of gradients against autograd, in float64."""

import pytest
import torch

from gradood.functional.gaia import abnormality_ratio, log_softmax_gradient, zero_abnormality
from gradood.functional.gradnorm import last_layer_gradient_norm, linear_logits
from gradood.functional.grood import ood_gradient, prototype_distances
from gradood.functional.logits import energy, max_logit, max_softmax


def cross_entropy_gradient(h, prototypes, ood, label):
    ood = ood.clone().requires_grad_()
    distances = torch.stack([(h - p).norm() for p in (*prototypes, ood)])
    loss = -torch.log_softmax(-distances, 0)[label]
    return torch.autograd.grad(loss, ood)[0]


def vectors(p):
    return p.unit.double() * p.log_length.exp()[:, None]


@pytest.mark.parametrize("label", [0, 3])
def test_grood_gradient_equals_autograd_for_any_label(label):
    h = torch.randn(9, 6, dtype=torch.float64)
    prototypes, ood = torch.randn(5, 6).double(), torch.randn(6).double()
    found = vectors(ood_gradient(h, prototypes, ood))
    for i in range(9):
        expected = cross_entropy_gradient(h[i], prototypes, ood, label)
        # For a class label the loss falls as p_o moves away: the sign is the method's.
        torch.testing.assert_close(found[i].abs(), expected.abs(), rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("away", [50.0, 110.0, 600.0])
def test_grood_gradient_where_the_softmax_underflows(away):
    """π_o itself is zero in float32 from 104 on; its logarithm is not."""
    prototypes = torch.zeros(2, 4, dtype=torch.float64)
    prototypes[1, 0] = 1.0
    ood = torch.tensor([0.0, away, 0.0, 0.0], dtype=torch.float64)
    h = torch.tensor([[0.1, 0.2, 0.0, 0.0]], dtype=torch.float64)
    found = ood_gradient(h.float(), prototypes, ood)
    distances = torch.stack([(h[0].float().double() - p).norm() for p in (*prototypes, ood)])
    expected = torch.log_softmax(-distances, 0)[2]
    assert float(found.log_length[0]) == pytest.approx(float(expected), rel=1e-9)
    direction = (h[0] - ood) / (h[0] - ood).norm()
    torch.testing.assert_close(found.unit[0], direction.float())


def test_grood_gradient_at_the_ood_prototype_is_finite():
    prototypes, ood = torch.randn(3, 4).double(), torch.randn(4)
    found = ood_gradient(ood[None], prototypes, ood.double())
    assert bool(found.unit.isfinite().all() and found.log_length.isfinite().all())


def test_prototype_distances_keep_their_precision_far_from_the_origin():
    h, prototypes = torch.randn(6, 5).double() + 1e5, torch.randn(4, 5).double() + 1e5
    expected = (h[:, None] - prototypes[None]).norm(dim=2)
    torch.testing.assert_close(prototype_distances(h, prototypes), expected, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("order", [1.0, 2.0, 3.0, float("inf")])
@pytest.mark.parametrize("temperature", [0.5, 1.0, 10.0])
def test_gradnorm_equals_autograd(temperature, order, bias):
    h, weight = torch.randn(4, 6, dtype=torch.float64), torch.randn(3, 6, dtype=torch.float64)
    b = torch.randn(3, dtype=torch.float64)
    found = last_layer_gradient_norm(
        h, linear_logits(h, weight, b), temperature=temperature, order=order, bias=bias
    )
    for i in range(4):
        w, c = weight.clone().requires_grad_(), b.clone().requires_grad_()
        loss = -torch.log_softmax((w @ h[i] + c) / temperature, 0).mean()
        parts = torch.autograd.grad(loss, [w, c] if bias else [w])
        norm = torch.linalg.vector_norm(torch.cat([p.flatten() for p in parts]), order)
        assert float(found[i]) == pytest.approx(float(norm), rel=1e-10)


def test_log_softmax_gradient_equals_autograd():
    h, weight = torch.randn(4, 6, dtype=torch.float64), torch.randn(3, 6, dtype=torch.float64)
    h.requires_grad_()
    logits = h @ weight.T
    expected = torch.autograd.grad(torch.log_softmax(logits, 1).sum(), h)[0]
    torch.testing.assert_close(log_softmax_gradient(logits.detach(), weight), expected)


def test_abnormality_ratio_weighs_channels_alike_and_never_gives_nan():
    inner = [torch.rand(3, 2), torch.rand(3, 5)]
    outer = torch.rand(3, 4)
    outer[1] = 0.0
    inner[0][1], inner[1][1] = 0.0, 0.0
    found = abnormality_ratio(inner, outer)
    o = outer.double().abs().mean(1).sqrt()
    expected = (torch.cat(inner, 1).double() / o[:, None]).square().mean(1)
    torch.testing.assert_close(found[[0, 2]], expected[[0, 2]])
    assert float(found[1]) == torch.inf


def test_zero_abnormality_weighs_channels_alike():
    shares = [torch.rand(3, 2), torch.rand(3, 5)]
    expected = torch.cat(shares, 1).double().square().mean(1)
    torch.testing.assert_close(zero_abnormality(shares), expected)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 7.0])
def test_energy_is_the_logarithm_of_a_sum(temperature):
    z = torch.randn(4, 5, dtype=torch.float64)
    expected = -temperature * (z / temperature).exp().sum(1).log()
    torch.testing.assert_close(energy(z, temperature), expected)


def test_scores_of_logits_rise_with_uncertainty():
    sure, unsure = torch.tensor([[9.0, 0.0, 0.0]]), torch.tensor([[1.0, 0.9, 0.8]])
    for score in (energy, max_logit, max_softmax):
        assert float(score(sure)) < float(score(unsure))
    assert float(max_softmax(sure)) == pytest.approx(-float(sure.softmax(1).max()))
    assert float(max_logit(sure)) == -9.0
