"""A network for 8×8 digits, small enough to train in seconds, with all that the methods read."""

from typing import final

from torch import Tensor, nn

__all__ = ["DigitsNet", "digits_net"]


@final
class DigitsNet(nn.Module):
    """Three stages of convolution, BatchNorm and ReLU; a mean over positions; a linear head.

    Args:
        num_classes: number of logits.
    """

    def __init__(self, *, num_classes: int = 10) -> None:
        super().__init__()
        self.stage1 = nn.Sequential(*_layers(1, 16), *_layers(16, 16))
        self.stage2 = nn.Sequential(*_layers(16, 32, stride=2), *_layers(32, 32))
        self.stage3 = nn.Sequential(*_layers(32, 64, stride=2), *_layers(64, 64))
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.head = nn.Linear(64, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (batch, num_classes) of images (batch, 1, 8, 8) in [0, 1]."""
        x = self.stage3(self.stage2(self.stage1(x)))
        return self.head(self.pool(x).flatten(1))


def digits_net(num_classes: int = 10) -> DigitsNet:
    """The network of the demo: 73 thousand parameters, 64 features, head `head`.

    Preprocessing: gray 8×8 in [0, 1], not normalized.

    Args:
        num_classes: number of logits.
    """
    return DigitsNet(num_classes=num_classes)


def _layers(channels: int, width: int, *, stride: int = 1) -> tuple[nn.Module, ...]:
    conv = nn.Conv2d(channels, width, 3, stride=stride, padding=1, bias=False)
    return conv, nn.BatchNorm2d(width), nn.ReLU()
