"""Second derivatives of batch norm and convolution in closed form, against torch's own."""

import contextlib
import copy

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from gradood.training import _convolution, _kernels, _normalization
from gradood.training._kernels import differentiable_kernels

SHAPES = {1: (5, 4, 6), 2: (5, 4, 3, 4), 3: (4, 4, 2, 3, 2)}
NORMS = {1: nn.BatchNorm1d, 2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
CONVOLUTIONS = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}


@pytest.fixture
def used(monkeypatch):
    """Names of the closed forms that were used."""
    names = []
    for name in ("batch_norm", "convolution"):
        own = getattr(_kernels, name)

        def spy(*args, own=own, name=name, **options):
            names.append(name)
            return own(*args, **options)

        monkeypatch.setattr(_kernels, name, spy)
    return names


def scrambled(layer: nn.Module, dtype: torch.dtype = torch.float64) -> nn.Module:
    """The layer with parameters and statistics that are not those of a fresh one."""
    torch.manual_seed(1)
    for name, tensor in (*layer.named_parameters(), *layer.named_buffers()):
        if tensor.is_floating_point():
            value = torch.rand(tensor.shape, dtype=torch.float64) + 0.5
            tensor.data = value if name.endswith("var") else value - 0.8
    return layer.to(dtype)


def derivatives(layer: nn.Module, x: Tensor, *, own: bool, second: bool = True) -> list[Tensor]:
    """Output, first and second derivatives, and buffers afterwards."""
    torch.manual_seed(2)
    layer, x = copy.deepcopy(layer), x.clone().requires_grad_()
    with differentiable_kernels() if own else contextlib.nullcontext():
        y = layer(x)
    # Not linear, so that its gradient is no constant.
    (q,) = torch.autograd.grad((y * torch.randn_like(y)).tanh().sum(), x, create_graph=True)
    loss = y.square().mean()
    if second:
        loss = loss + (q * torch.randn_like(q)).sum()
    inputs = [x, *layer.parameters()]
    found = torch.autograd.grad(loss, inputs, materialize_grads=True)
    return [y.detach(), q.detach(), *found, *layer.buffers()]


def assert_same(layer: nn.Module, x: Tensor, rtol: float) -> None:
    pairs = zip(derivatives(layer, x, own=True), derivatives(layer, x, own=False), strict=True)
    for ours, theirs in pairs:
        assert (
            float((ours - theirs).double().norm()) <= rtol * float(theirs.double().norm()) + 1e-30
        )


@pytest.mark.parametrize(
    "options", [{}, {"affine": False}, {"momentum": None}, {"eps": 0.1}], ids=str
)
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("tracked", [True, False])
@pytest.mark.parametrize("dimensions", [0, 1, 2, 3])
def test_batch_norm_is_that_of_torch(used, dimensions, tracked, training, options):
    norm = NORMS[max(dimensions, 1)](4, track_running_stats=tracked, **options)
    layer = scrambled(norm).train(training)
    x = torch.randn(SHAPES[dimensions] if dimensions else (5, 4)).double()
    assert_same(layer, x, 1e-12)
    assert used == ["batch_norm"]


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"bias": False},
        {"stride": 2, "padding": 1},
        {"dilation": 2, "padding": 2},
        {"groups": 2, "padding": 1},
        {"kernel_size": 1, "stride": 2},
    ],
    ids=str,
)
@pytest.mark.parametrize("dimensions", [1, 2, 3])
def test_a_convolution_is_that_of_torch(used, dimensions, options):
    layer = scrambled(CONVOLUTIONS[dimensions](4, 6, **{"kernel_size": 3} | options))
    assert_same(layer, torch.randn(2, 4, *[5, 6, 7][:dimensions]).double(), 1e-12)
    assert used == ["convolution"]


@pytest.mark.parametrize("training", [True, False])
def test_float32_is_within_its_rounding(training):
    layer = nn.Sequential(
        nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8), nn.Conv2d(8, 4, 3, bias=False)
    )
    layer = scrambled(layer, torch.float32).train(training)
    assert_same(layer, torch.randn(16, 3, 12, 12), 1e-6)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("affine", [True, False])
def test_batch_norm_passes_the_checks_of_gradients(training, affine):
    torch.manual_seed(0)
    x = torch.randn(3, 2, 2, dtype=torch.float64, requires_grad=True)
    running = torch.randn(2).double(), torch.rand(2).double() + 0.5
    given = [torch.randn(2, dtype=torch.float64, requires_grad=True) for _ in range(2 * affine)]

    def call(x: Tensor, *given: Tensor) -> Tensor:
        statistics = (None, None) if training else running
        pair = (given[0], given[1]) if given else (None, None)
        options = {"training": training, "momentum": 0.1, "eps": 1e-5}
        return _normalization.batch_norm(x, statistics, pair, **options)

    assert torch.autograd.gradcheck(call, (x, *given))
    assert torch.autograd.gradgradcheck(call, (x, *given))


@pytest.mark.parametrize("bias", [True, False])
def test_a_convolution_passes_the_checks_of_gradients(bias):
    torch.manual_seed(0)
    shapes = [(2, 2, 4, 3), (4, 1, 2, 2), (4,)]
    x, w, *b = (torch.randn(s, dtype=torch.float64, requires_grad=True) for s in shapes)
    geometry = _convolution.Geometry([2, 1], [1, 0], [1, 2], 2)

    def call(x: Tensor, w: Tensor, *b: Tensor) -> Tensor:
        return _convolution.convolution(x, w, b[0] if b else None, geometry)

    given = (x, w, *b) if bias else (x, w)
    assert torch.autograd.gradcheck(call, given)
    assert torch.autograd.gradgradcheck(call, given)


@pytest.mark.parametrize("zeros", [[0], [0, 1, 2, 3]])
def test_weights_of_zero_have_the_gradient_of_torch(zeros):
    """As in residual networks whose blocks begin as the identity."""
    layer = scrambled(nn.BatchNorm2d(4))
    with torch.no_grad():
        layer.weight[zeros] = 0.0
    assert_same(layer, torch.randn(SHAPES[2]).double(), 1e-12)


def test_parameters_that_are_frozen_and_in_place_layers():
    layer = nn.Sequential(
        nn.Conv2d(4, 4, 3, padding=1),
        nn.ReLU(inplace=True),
        nn.BatchNorm2d(4),
        nn.ReLU(inplace=True),
        nn.Conv2d(4, 2, 1),
    )
    layer = scrambled(layer)
    assert_same(layer, torch.randn(SHAPES[2]).double(), 1e-12)
    for parameter in (layer[0].weight, layer[2].bias):
        parameter.requires_grad_(False)
    x = torch.randn(SHAPES[2]).double().requires_grad_()
    found = []
    for kernels in (differentiable_kernels(), contextlib.nullcontext()):
        with kernels:
            (q,) = torch.autograd.grad(layer(x).square().sum(), x, create_graph=True)
        layer.zero_grad()
        q.square().sum().backward()
        found.append([p.grad for p in layer.parameters()])
    for ours, theirs in zip(*found, strict=True):
        assert (ours is None) == (theirs is None)
        assert ours is None or torch.allclose(ours, theirs, rtol=1e-12, atol=1e-12)


def test_the_gradient_to_the_input_computes_none_to_the_parameters(monkeypatch):
    layer = nn.Sequential(nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 1)).double()
    wanted = []
    own = _convolution.Geometry.gradients

    def spy(self, g, x, weight, mask):
        wanted.append(tuple(mask))
        return own(self, g, x, weight, mask)

    monkeypatch.setattr(_convolution.Geometry, "gradients", spy)
    x = torch.randn(SHAPES[2]).double().requires_grad_()
    with differentiable_kernels():
        y = layer(x)
    (q,) = torch.autograd.grad(y.square().sum(), x, create_graph=True)
    assert wanted == [(True, False, False)] * 3
    wanted.clear()
    (q.square().sum() + y.sum()).backward()
    assert sorted(wanted) == [(False, True, False)] * 3 + [(True, True, True)] * 3


def test_channels_last_is_kept():
    layer = scrambled(nn.Sequential(nn.Conv2d(4, 4, 3, bias=False), nn.BatchNorm2d(4)))
    x = torch.randn(5, 4, 6, 6).double().to(memory_format=torch.channels_last)
    assert_same(layer.to(memory_format=torch.channels_last), x, 1e-12)


class Doubled(Tensor):
    """A kind of tensor of its own."""


OTHERS = {
    "half": lambda x: nn.BatchNorm2d(4).bfloat16()(x.bfloat16()),
    "mixed": lambda x: nn.BatchNorm2d(4)(x.bfloat16()),
    "subclass": lambda x: nn.BatchNorm2d(4)(x.as_subclass(Doubled)),
    "same": lambda x: nn.Conv2d(4, 4, 3, padding="same")(x),
    "one image": lambda x: nn.Conv2d(4, 4, 3)(x[0]),
    "no rows": lambda x: nn.Conv2d(4, 4, 3)(x[:0]),
    "one step for all": lambda x: F.conv2d(x, torch.ones(4, 4, 3, 3), None, [1], [0], [2]),
    "transposed": lambda x: nn.ConvTranspose2d(4, 4, 3)(x),
    "instance norm": lambda x: nn.InstanceNorm2d(4)(x),
    "traced": lambda x: torch.jit.trace(nn.BatchNorm2d(4).eval(), x.detach())(x),
    "checkpointed": lambda x: checkpoint(nn.Conv2d(4, 4, 3), x, use_reentrant=False),
}


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:.*not a leaf:UserWarning")
@pytest.mark.parametrize("name", OTHERS)
def test_all_else_is_left_to_torch(used, name):
    x = torch.randn(4, 4, 6, 6).requires_grad_()
    with differentiable_kernels():
        y = OTHERS[name](x)
    torch.autograd.grad(y.float().sum(), x, create_graph=True, allow_unused=True)
    assert used == []


def test_autocast_and_no_grad_are_left_to_torch(used):
    x = torch.randn(4, 4, 6, 6, requires_grad=True)
    layer = nn.Sequential(nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4))
    with differentiable_kernels(), torch.autocast("cpu", torch.bfloat16):
        layer(x)
    with differentiable_kernels(), torch.no_grad():
        layer(x)
    layer.requires_grad_(False)
    with differentiable_kernels():
        layer(x.detach())
    assert used == []


def test_wrong_shapes_are_refused_as_by_torch():
    with differentiable_kernels(), pytest.raises(ValueError, match="more than 1 value per channel"):
        nn.BatchNorm1d(3)(torch.zeros(1, 3, requires_grad=True))
    with differentiable_kernels(), pytest.raises(RuntimeError, match="running_mean"):
        F.batch_norm(torch.zeros(2, 3, requires_grad=True), torch.zeros(2), torch.ones(2))
    for shape, said in (((2, 4, 2, 2), "channels"), ((2, 3, 1, 1), "Kernel size can't be greater")):
        with differentiable_kernels(), pytest.raises(RuntimeError, match=said):
            nn.Conv2d(3, 3, 2)(torch.zeros(shape, requires_grad=True))


def test_checkpointed_layers_are_differentiated_twice():
    class Checkpointed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.Sequential(nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4), nn.Tanh())

        def forward(self, x: Tensor) -> Tensor:
            return checkpoint(self.inner, x, use_reentrant=False)

    layer = scrambled(Checkpointed()).eval()
    assert_same(layer, torch.randn(SHAPES[2][0], 4, 5, 5).double(), 1e-12)


@pytest.mark.parametrize("training", [True, False])
def test_a_third_derivative_of_batch_norm_is_refused(training):
    x = torch.randn(SHAPES[2], requires_grad=True)
    with differentiable_kernels():
        y = nn.BatchNorm2d(4).train(training)(x).tanh()
    (q,) = torch.autograd.grad(y.sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="outside of differentiable_kernels"):
        torch.autograd.grad(q.square().sum(), x, create_graph=True)


def test_a_third_derivative_of_a_convolution_is_that_of_torch():
    layer = scrambled(nn.Sequential(nn.Conv2d(4, 4, 2), nn.Tanh(), nn.Conv2d(4, 2, 2)))
    x, found = torch.randn(SHAPES[2]).double().requires_grad_(), []
    inputs = (x, *layer.parameters())
    for kernels in (differentiable_kernels(), contextlib.nullcontext()):
        with kernels:
            value = layer(x).square().sum()
        for _ in range(3):
            gradients = torch.autograd.grad(value, inputs, create_graph=True)
            value = sum((g.square().mean() for g in gradients), start=torch.zeros(()))
        found.append([g.detach() for g in gradients])
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-10)
