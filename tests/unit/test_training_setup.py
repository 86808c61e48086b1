import contextlib

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from gradood.errors import ConfigError
from gradood.testing._snapshot import Snapshot
from gradood.training import load_recipe
from gradood.training._setup import check_model, check_twice_differentiable

GREG = load_recipe("greg")
X = torch.randn(4, 6)


class Attending(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(6, 32)
        self.head = nn.Linear(32, 3)

    def forward(self, x: Tensor) -> Tensor:
        q = self.inner(x).view(len(x), 1, 2, 16)
        return self.head(F.scaled_dot_product_attention(q, q, q).flatten(1))


class Checkpointed(nn.Module):
    """Only in training, as Transformers do it."""

    def __init__(self, reentrant: bool) -> None:
        super().__init__()
        self.reentrant = reentrant
        self.inner = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Tanh())
        self.head = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            return self.head(checkpoint(self.inner, x, use_reentrant=self.reentrant))
        return self.head(self.inner(x))


class Opaque(torch.autograd.Function):
    """A custom operation with a first derivative alone."""

    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, gradient):
        return gradient


class Custom(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        return Opaque.apply(self.head(x))


def test_attention_is_differentiated_by_its_plain_kernel():
    model = Attending()
    x = X.clone().requires_grad_()
    with pytest.raises(RuntimeError, match=r"is not implemented"):
        g = torch.autograd.grad(model(x).logsumexp(1).sum(), x, create_graph=True)[0]
        g.norm().backward()
    check_model(model, GREG)
    check_twice_differentiable(model, X, GREG)


def test_attention_without_the_math_kernel_is_refused():
    torch.backends.cuda.enable_math_sdp(False)
    try:
        with pytest.raises(ConfigError, match=r"math kernel of attention is switched off"):
            check_model(Attending(), GREG)
        check_model(Attending(), load_recipe("energy"))
    finally:
        torch.backends.cuda.enable_math_sdp(True)


def test_flash_attention_is_refused_by_name():
    model = Attending()
    model.config = type("Config", (), {"_attn_implementation": "flash_attention_2"})()
    with pytest.raises(ConfigError, match=r"attn_implementation='sdpa' or 'eager'"):
        check_model(model, GREG)


def test_synchronized_batch_norm_is_refused():
    model = nn.SyncBatchNorm.convert_sync_batchnorm(
        nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    )
    with pytest.raises(ConfigError, match=r"SyncBatchNorm '1' has no second derivative"):
        check_model(model, GREG)
    check_model(model, load_recipe("energy"))


def test_compiled_models_and_parts_are_refused():
    whole = torch.compile(Attending(), backend="eager")
    with pytest.raises(ConfigError, match=r"the OptimizedModule is compiled.*before torch\.comp"):
        check_model(whole, GREG)
    part = Attending()
    part.inner.compile(backend="eager")
    with pytest.raises(ConfigError, match=r"Linear 'inner' is compiled"):
        check_model(part, GREG)
    check_model(whole, load_recipe("oe"))


def test_reentrant_checkpointing_is_refused_and_the_other_kind_works():
    check_twice_differentiable(Checkpointed(False), X, GREG)
    with pytest.raises(ConfigError, match=r"expected torch\.utils\.checkpoint with use_reentrant"):
        check_twice_differentiable(Checkpointed(True), X, GREG)
    check_twice_differentiable(Checkpointed(True), X, load_recipe("energy"))


def test_anything_else_without_a_second_derivative_is_refused():
    with pytest.raises(ConfigError, match=r"cannot be differentiated twice.*once_differentiable"):
        check_twice_differentiable(Custom(), X, GREG)


@pytest.mark.parametrize("model", [Checkpointed(False), Checkpointed(True), Attending()])
def test_the_trial_leaves_the_model_as_it_was(model):
    before = Snapshot(model.eval())
    with contextlib.suppress(ConfigError):
        check_twice_differentiable(model, X, GREG)
    # Only the version counters of buffers that were put back differ.
    assert [c for c in before.changes() if not c.startswith("the identity of inner.1")] == []


def test_a_penalty_without_weight_refuses_nothing():
    check_twice_differentiable(Custom(), X, load_recipe("greg", ["loss.gradient.weight=0"]))
