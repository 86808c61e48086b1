"""A thousand looks leave nothing behind: no hook, no gradient, no tensor."""

import gc
import warnings

import pytest
import torch
from torch import Tensor, nn

import gradood

METHODS = ["energy", "gradnorm", "gaia-a", "gaia-z", gradood.GAIAZ(path="backward")]


def _model() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(1, 4, 3),
        nn.BatchNorm2d(4),
        nn.ReLU(inplace=True),
        nn.Conv2d(4, 4, 3),
        nn.BatchNorm2d(4),
        nn.ReLU(inplace=True),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(4, 3),
    )


def _tensors() -> int:
    gc.collect()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return sum(isinstance(thing, Tensor) for thing in gc.get_objects())


def _hooks(model: nn.Module) -> int:
    return sum(
        len(m._forward_hooks) + len(m._forward_pre_hooks) + len(m._backward_hooks)
        for m in model.modules()
    )


@pytest.mark.slow
def test_a_thousand_looks_leave_no_hook_no_gradient_and_no_tensor() -> None:
    model, x = _model().train(), torch.randn(4, 1, 8, 8)
    named = {f"{i}": method for i, method in enumerate(METHODS)}
    monitor = gradood.Monitor(model, named)
    first = monitor.score(x)
    before = _tensors()
    for _ in range(1000):
        last = monitor.score(x)
    assert _tensors() - before <= len(METHODS)
    assert _hooks(model) == 0
    assert all(p.grad is None and p.requires_grad for p in model.parameters())
    assert all(module.training for module in model.modules())
    assert all(torch.equal(first[name], last[name]) for name in first)


@pytest.mark.slow
def test_monitors_that_go_leave_nothing_in_the_model() -> None:
    model, x = _model(), torch.randn(4, 1, 8, 8)
    gradood.Monitor(model, "gaia-z").score(x)
    before = _tensors()
    for _ in range(20):
        gradood.Monitor(model, "gaia-z").score(x)
    assert _tensors() == before
    assert _hooks(model) == 0
