"""The CIFAR densely connected network, with bottlenecks and compression [huang2017densenet].

Pre-activation: what a stage hands on is not rectified, and its layers' outputs are concatenated.
"""

import math
from typing import final

import torch
from torch import Tensor, nn

__all__ = ["CifarDenseNet", "densenet101"]


class _Bottleneck(nn.Module):
    """(batch, channels, h, w) → (batch, channels + growth, h, w): the input, then what is new."""

    def __init__(self, channels: int, growth: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(channels)
        self.relu1 = nn.ReLU(inplace=True)
        self.conv1 = nn.Conv2d(channels, 4 * growth, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(4 * growth)
        self.relu2 = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(4 * growth, growth, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv1(self.relu1(self.bn1(x)))
        y = self.conv2(self.relu2(self.bn2(y)))
        return torch.cat([x, y], 1)


class _Dense(nn.Module):
    """Bottlenecks in a row; each sees all before it."""

    def __init__(self, layers: int, channels: int, growth: int) -> None:
        super().__init__()
        self.layer = nn.Sequential(
            *(_Bottleneck(channels + i * growth, growth) for i in range(layers))
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x)


class _Transition(nn.Module):
    """Fewer channels, half the height and width."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU(inplace=True)
        self.conv1 = nn.Conv2d(channels, width, 1, bias=False)
        self.pool = nn.AvgPool2d(2)

    def forward(self, x: Tensor) -> Tensor:
        return self.pool(self.conv1(self.relu(self.bn1(x))))


@final
class CifarDenseNet(nn.Module):
    """DenseNet-BC for 32×32 images: three dense stages, two transitions.

    Args:
        depth: convolutions and the head together, 6n + 4 for n bottlenecks per stage.
        growth: channels that each bottleneck adds.
        reduction: share of the channels that a transition keeps.
        num_classes: number of logits.
    """

    def __init__(
        self, *, depth: int = 100, growth: int = 12, reduction: float = 0.5, num_classes: int = 10
    ) -> None:
        super().__init__()
        layers = (depth - 4) // 6
        channels = 2 * growth
        self.conv1 = nn.Conv2d(3, channels, 3, padding=1, bias=False)
        self.block1 = _Dense(layers, channels, growth)
        channels += layers * growth
        self.trans1 = _Transition(channels, math.floor(channels * reduction))
        channels = math.floor(channels * reduction)
        self.block2 = _Dense(layers, channels, growth)
        channels += layers * growth
        self.trans2 = _Transition(channels, math.floor(channels * reduction))
        channels = math.floor(channels * reduction)
        self.block3 = _Dense(layers, channels, growth)
        channels += layers * growth
        self.bn1 = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU(inplace=True)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(channels, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (batch, num_classes) of normalized images (batch, 3, 32, 32)."""
        x = self.trans1(self.block1(self.conv1(x)))
        x = self.trans2(self.block2(x))
        x = self.relu(self.bn1(self.block3(x)))
        return self.fc(self.pool(x).flatten(1))


def densenet101(num_classes: int = 10) -> CifarDenseNet:
    """DenseNet-BC of depth 100, growth 12: 0.77 million parameters, 342 features, head `fc`.

    The "DenseNet-101" of the DICE, ReAct and LINe papers on CIFAR.

    Preprocessing: RGB 32×32 in [0, 1], mean (.4914, .4822, .4465), std (.2023, .1994, .2010).

    Args:
        num_classes: number of logits.
    """
    return CifarDenseNet(num_classes=num_classes)
