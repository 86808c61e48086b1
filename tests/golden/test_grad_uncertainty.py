"""Gradients toward all classes at once, against autograd and against GradNorm."""

import torch
from naive.gradnorm import q_norm
from naive.label_gradients import grad_uncertainty
from package import NAMES, same, setting
from torch.nn import functional as F

import gradood


def test_grad_uncertainty_is_its_formula():
    for name in NAMES:
        given = setting(name)
        h = given.features(given.x)
        same(given.scores(gradood.GradUncertainty()), grad_uncertainty(h, given.weight, given.bias))


def test_a_head_without_bias(rng):
    h, W = rng.normal(size=(9, 6)), rng.normal(size=(4, 6))
    model = torch.nn.Sequential(torch.nn.Identity(), torch.nn.Linear(6, 4, bias=False)).double()
    model[1].weight.data.copy_(torch.tensor(W))
    scores = gradood.Monitor(model, "grad-uncertainty").score(torch.tensor(h))
    same(scores, grad_uncertainty(h, W, None))


def test_other_parameters_are_taken_per_sample():
    given = setting("mlp_bn", n=3)
    names = ["linear1.weight", "norm2.bias", "head.weight", "head.bias"]
    parameters = dict(given.network.named_parameters())
    expected = []
    for row in given.x.split(1):
        p = torch.softmax(given.network(row), 1)
        loss = F.binary_cross_entropy(p, torch.ones_like(p), reduction="sum")
        gradients = torch.autograd.grad(loss, [parameters[name] for name in names])
        expected.append(-(q_norm(gradients, 2) ** 2))
    same(given.scores(gradood.GradUncertainty(parameters=names)), expected, relative=1e-8)


def test_on_the_head_it_ranks_as_gradnorm():
    given = setting("mlp_bn", n=50)
    uncertainty = given.scores(gradood.GradUncertainty())
    gradnorm = given.scores(gradood.GradNorm(order=2, bias=True))
    assert (uncertainty.argsort() == gradnorm.argsort()).all()
    same(uncertainty, -((len(given.bias) * gradnorm) ** 2))
