"""MobileNet-V2 for ImageNet, as stored in ../shared/photos [sandler2018mobilenetv2].

At the shell: `--model benchmarks.photo_network:mobilenet_v2 --weights
../shared/photos/mobilenet_v2_imagenet.safetensors`, with RGB 224×224 images of mean and std .5.
"""

from typing import final

import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["MEAN", "PREPROCESS", "STD", "MobileNetV2", "mobilenet_v2"]

MEAN, STD = (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)
PREPROCESS = {"resize": 256, "crop": 224, "mean": MEAN, "std": STD}
_STAGES = (
    # Expansion, channels, blocks, stride of the first.
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)


class _SameConv2d(nn.Conv2d):
    """A convolution with TensorFlow's 'SAME' padding: at stride 2, 0 before and 1 after."""

    def forward(self, x: Tensor) -> Tensor:
        if self.stride[0] == 2:
            return super().forward(F.pad(x, (0, 1, 0, 1)))
        return super().forward(x)


def _depthwise(channels: int, width: int, stride: int, groups: int) -> nn.Conv2d:
    padding = 1 if stride == 1 else 0
    return _SameConv2d(channels, width, 3, stride=stride, padding=padding, groups=groups)


class _InvertedResidual(nn.Module):
    """Expansion, depthwise convolution and projection, with a shortcut where shapes allow."""

    def __init__(self, channels: int, width: int, stride: int, expansion: int) -> None:
        super().__init__()
        inner = channels * expansion
        if expansion > 1:
            self.expand = nn.Conv2d(channels, inner, 1)
            self.relu1 = nn.ReLU6()
        self.expands = expansion > 1
        self.depthwise = _depthwise(inner, inner, stride, inner)
        self.relu2 = nn.ReLU6()
        self.project = nn.Conv2d(inner, width, 1)
        self.shortcut = stride == 1 and channels == width

    def forward(self, x: Tensor) -> Tensor:
        y = self.relu1(self.expand(x)) if self.expands else x
        y = self.project(self.relu2(self.depthwise(y)))
        return x + y if self.shortcut else y


@final
class MobileNetV2(nn.Module):
    """MobileNet-V2 1.0, batch norms folded into convolutions; 1,280 features, head `fc`."""

    def __init__(self, num_classes: int = 1000) -> None:
        super().__init__()
        self.stem = _depthwise(3, 32, 2, 1)
        self.relu = nn.ReLU6()
        blocks, channels = [], 32
        for expansion, width, count, stride in _STAGES:
            for index in range(count):
                step = stride if index == 0 else 1
                blocks.append(_InvertedResidual(channels, width, step, expansion))
                channels = width
        self.blocks = nn.Sequential(*blocks)
        self.head = nn.Conv2d(320, 1280, 1)
        self.relu_head = nn.ReLU6()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(1280, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (batch, num_classes) of images (batch, 3, 224, 224) in [−1, 1]."""
        x = self.blocks(self.relu(self.stem(x)))
        return self.fc(self.pool(self.relu_head(self.head(x))).flatten(1))


def mobilenet_v2(num_classes: int = 1000) -> MobileNetV2:
    """MobileNet-V2 1.0; RGB 224×224 images, mean and std .5."""
    return MobileNetV2(num_classes)
