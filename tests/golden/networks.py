"""Tiny seeded float64 networks on which the gradient methods can be checked against the oracles.

BatchNorm statistics and affine parameters are random, so that every ReLU passes some positions and
blocks others; channels are many enough that no active position is dead further down, but for
`max_pool_cnn`, which is built so that this fails.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class PlainCNN(nn.Module):
    """conv-BN-ReLU twice, optionally with a max pool between, mean pool, `head`."""

    def __init__(self, max_pool: bool, classes: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 8, 3, padding=1)
        self.norm1 = nn.BatchNorm2d(8)
        self.relu1 = nn.ReLU()
        self.between = nn.MaxPool2d(2) if max_pool else nn.Identity()
        self.conv2 = nn.Conv2d(8, 10, 3, padding=1)
        self.norm2 = nn.BatchNorm2d(10)
        self.relu2 = nn.ReLU()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.head = nn.Linear(10, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.between(self.relu1(self.norm1(self.conv1(x))))
        x = self.relu2(self.norm2(self.conv2(x)))
        outputs: Tensor = self.head(self.pool(x).flatten(1))
        return outputs


class ResidualBlock(nn.Module):
    """conv-norm-relu-conv-norm, plus the input or its projection, then the same in-place ReLU."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(outputs)
        self.relu = nn.ReLU(inplace=True)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            projection = nn.Conv2d(inputs, outputs, 1, stride=stride, bias=False)
            self.shortcut = nn.Sequential(projection, nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        residual = self.norm2(self.conv2(self.relu(self.norm1(self.conv1(x)))))
        outputs: Tensor = self.relu(residual + self.shortcut(x))
        return outputs


class PostActivationResNet(nn.Module):
    """Stem, an identity block, a projection block of stride 2, mean pool, `head`."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(8)
        self.relu = nn.ReLU(inplace=True)
        self.stage1 = ResidualBlock(8, 8, stride=1)
        self.stage2 = ResidualBlock(8, 12, stride=2)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.head = nn.Linear(12, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stage2(self.stage1(self.relu(self.norm(self.conv(x)))))
        outputs: Tensor = self.head(self.pool(x).flatten(1))
        return outputs


class DenseLayer(nn.Module):
    """norm, in-place ReLU, conv; the new channels are appended to the input."""

    def __init__(self, inputs: int, growth: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(inputs)
        self.relu = nn.ReLU(inplace=True)
        self.conv = nn.Conv2d(inputs, growth, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x, self.conv(self.relu(self.norm(x)))], dim=1)


class PreActivationDenseNet(nn.Module):
    """conv, two dense layers, transition, two more, final norm and ReLU, mean pool, `head`."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 6, 3, padding=1, bias=False)
        self.block1 = nn.Sequential(DenseLayer(6, 4), DenseLayer(10, 4))
        self.transition = nn.Sequential(
            nn.BatchNorm2d(14),
            nn.ReLU(inplace=True),
            nn.Conv2d(14, 8, 1, bias=False),
            nn.AvgPool2d(2),
        )
        self.block2 = nn.Sequential(DenseLayer(8, 4), DenseLayer(12, 4))
        self.norm = nn.BatchNorm2d(16)
        self.relu = nn.ReLU(inplace=True)
        self.head = nn.Linear(16, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.block2(self.transition(self.block1(self.conv(x))))
        x = F.adaptive_avg_pool2d(self.relu(self.norm(x)), 1)
        outputs: Tensor = self.head(x.flatten(1))
        return outputs


class MlpBN(nn.Module):
    """linear-BN-ReLU twice on vectors of 12, `head`: hooked outputs without positions."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.linear1 = nn.Linear(12, 16)
        self.norm1 = nn.BatchNorm1d(16)
        self.relu1 = nn.ReLU()
        self.linear2 = nn.Linear(16, 14)
        self.norm2 = nn.BatchNorm1d(14)
        self.relu2 = nn.ReLU()
        self.head = nn.Linear(14, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu1(self.norm1(self.linear1(x)))
        outputs: Tensor = self.head(self.relu2(self.norm2(self.linear2(x))))
        return outputs


def randomize(network: nn.Module, seed: int) -> nn.Module:
    """`network` in float64 and eval mode, every parameter and BatchNorm statistic drawn anew."""
    generator = torch.Generator().manual_seed(seed)
    network = network.double().eval()

    def normal(target: Tensor, mean: float, deviation: float) -> None:
        draw = torch.randn(target.shape, generator=generator, dtype=torch.float64)
        target.copy_(mean + deviation * draw)

    def uniform(target: Tensor, low: float, high: float) -> None:
        draw = torch.rand(target.shape, generator=generator, dtype=torch.float64)
        target.copy_(low + (high - low) * draw)

    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                normal(module.weight, 0.0, math.sqrt(2.0 / module.weight[0].numel()))
                if module.bias is not None:
                    normal(module.bias, 0.0, 0.2)
            elif isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
                assert module.running_mean is not None
                assert module.running_var is not None
                normal(module.running_mean, 0.0, 0.3)
                uniform(module.running_var, 0.5, 1.5)
                uniform(module.weight, 0.6, 1.4)
                normal(module.bias, 0.1, 0.3)
    return network


def _build(make: Callable[[], nn.Module], seed: int) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        return randomize(make(), seed)


def plain_cnn(seed: int = 0, classes: int = 5) -> nn.Module:
    """conv-BN-ReLU twice, mean pool, head; out-of-place ReLUs. Input (N, 3, 8, 8)."""
    return _build(lambda: PlainCNN(False, classes), seed)


def max_pool_cnn(seed: int = 0, classes: int = 5) -> nn.Module:
    """`plain_cnn` with a max pool after the first ReLU: GAIA-Z's forward-only count is wrong."""
    return _build(lambda: PlainCNN(True, classes), seed)


def post_activation_resnet(seed: int = 0, classes: int = 5) -> nn.Module:
    """Post-activation residual network, in-place ReLUs used twice per block, projection with BN."""
    return _build(lambda: PostActivationResNet(classes), seed)


def pre_activation_densenet(seed: int = 0, classes: int = 5) -> nn.Module:
    """Pre-activation DenseNet, every norm followed by an in-place ReLU. Input (N, 3, 8, 8)."""
    return _build(lambda: PreActivationDenseNet(classes), seed)


def mlp_bn(seed: int = 0, classes: int = 5) -> nn.Module:
    """Two linear-BN-ReLU layers and a head. Input (N, 12)."""
    return _build(lambda: MlpBN(classes), seed)


@dataclass(frozen=True)
class Case:
    """One network of the table and the layers by which the methods know it.

    `masks` gives, for each norm, the module whose positive outputs are the active positions of the
    ReLU which that norm feeds (in a residual block: the ReLU of the sum); None where the
    forward-only count is wrong. `inner` and `last` are GAIA-A's layers; `positions` is S, the
    positions that the pool averages; `early` is a layer to mix at for GROOD.
    """

    build: Callable[..., nn.Module]
    shape: tuple[int, ...]
    norms: tuple[str, ...]
    masks: tuple[str, ...] | None
    inner: tuple[str, ...]
    last: str
    positions: int
    early: str
    head: str = "head"

    def inputs(self, n: int, seed: int = 0) -> Tensor:
        """`n` seeded standard normal inputs (n, *shape), float64."""
        generator = torch.Generator().manual_seed(1000 + seed)
        return torch.randn((n, *self.shape), generator=generator, dtype=torch.float64)


_RESNET_NORMS = (
    "norm",
    "stage1.norm1",
    "stage1.norm2",
    "stage2.norm1",
    "stage2.norm2",
    "stage2.shortcut.1",
)
_DENSENET_NORMS = (
    "block1.0.norm",
    "block1.1.norm",
    "transition.0",
    "block2.0.norm",
    "block2.1.norm",
    "norm",
)

CASES: dict[str, Case] = {
    "plain_cnn": Case(
        build=plain_cnn,
        shape=(3, 8, 8),
        norms=("norm1", "norm2"),
        masks=("norm1", "norm2"),
        inner=("norm1", "norm2"),
        last="relu2",
        positions=64,
        early="relu1",
    ),
    "max_pool_cnn": Case(
        build=max_pool_cnn,
        shape=(3, 8, 8),
        norms=("norm1", "norm2"),
        masks=None,
        inner=("norm1", "norm2"),
        last="relu2",
        positions=16,
        early="relu1",
    ),
    "post_activation_resnet": Case(
        build=post_activation_resnet,
        shape=(3, 8, 8),
        norms=_RESNET_NORMS,
        masks=("norm", "stage1.norm1", "stage1", "stage2.norm1", "stage2", "stage2"),
        inner=_RESNET_NORMS[1:],
        last="stage2",
        positions=16,
        early="stage1",
    ),
    "pre_activation_densenet": Case(
        build=pre_activation_densenet,
        shape=(3, 8, 8),
        norms=_DENSENET_NORMS,
        masks=_DENSENET_NORMS,
        inner=_DENSENET_NORMS[3:],
        last="relu",
        positions=16,
        early="block1",
    ),
    "mlp_bn": Case(
        build=mlp_bn,
        shape=(12,),
        norms=("norm1", "norm2"),
        masks=("norm1", "norm2"),
        inner=("norm1", "norm2"),
        last="relu2",
        positions=1,
        early="relu1",
    ),
}
