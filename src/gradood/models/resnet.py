"""The CIFAR residual networks, post-activation, without parameters in the shortcuts [he2016resnet].

A ReLU module runs once per forward, so that every activation has a name of its own.
"""

from typing import final

import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["CifarResNet", "resnet20", "resnet56"]


class _Block(nn.Module):
    """Two 3×3 convolutions and a shortcut: (batch, channels, h, w) → (batch, width, h', w')."""

    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.relu2 = nn.ReLU()
        self.stride = stride
        self.padding = (width - channels) // 2

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(self.relu1(self.bn1(self.conv1(x)))))
        return self.relu2(y + self._shortcut(x))

    def _shortcut(self, x: Tensor) -> Tensor:
        if self.stride == 1 and not self.padding:
            return x
        x = x[:, :, :: self.stride, :: self.stride]
        return F.pad(x, (0, 0, 0, 0, self.padding, self.padding))


@final
class CifarResNet(nn.Module):
    """A network of depth 6n + 2: three stages of n blocks with 16, 32 and 64 channels.

    Args:
        blocks: n, per stage.
        num_classes: number of logits.
    """

    def __init__(self, blocks: int, *, num_classes: int = 10) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.relu = nn.ReLU()
        self.layer1 = _stage(16, 16, blocks, stride=1)
        self.layer2 = _stage(16, 32, blocks, stride=2)
        self.layer3 = _stage(32, 64, blocks, stride=2)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.linear = nn.Linear(64, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (batch, num_classes) of normalized images (batch, 3, 32, 32)."""
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.linear(self.pool(x).flatten(1))


def resnet20(num_classes: int = 10) -> CifarResNet:
    """ResNet-20: 0.27 million parameters, 64 features, head `linear`.

    Preprocessing: RGB 32×32 in [0, 1], mean (.485, .456, .406), std (.229, .224, .225).

    Args:
        num_classes: number of logits.
    """
    return CifarResNet(3, num_classes=num_classes)


def resnet56(num_classes: int = 10) -> CifarResNet:
    """ResNet-56: 0.85 million parameters, 64 features, head `linear`.

    Preprocessing: RGB 32×32 in [0, 1], mean (.485, .456, .406), std (.229, .224, .225).

    Args:
        num_classes: number of logits.
    """
    return CifarResNet(9, num_classes=num_classes)


def _stage(channels: int, width: int, blocks: int, *, stride: int) -> nn.Sequential:
    first = _Block(channels, width, stride)
    return nn.Sequential(first, *(_Block(width, width, 1) for _ in range(blocks - 1)))
