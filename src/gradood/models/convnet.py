"""A convolutional network for MNIST, without normalization layers [lecun1998gradient]."""

from typing import final

from torch import Tensor, nn

__all__ = ["ConvNet", "convnet_mnist"]


@final
class ConvNet(nn.Module):
    """Two 5×5 convolutions, each pooled and rectified; two linear layers.

    Args:
        num_classes: number of logits.
    """

    def __init__(self, *, num_classes: int = 10) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 10, 5)
        self.pool1 = nn.MaxPool2d(2)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(10, 20, 5)
        self.pool2 = nn.MaxPool2d(2)
        self.relu2 = nn.ReLU()
        self.fc1 = nn.Linear(320, 50)
        self.relu3 = nn.ReLU()
        self.fc2 = nn.Linear(50, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (batch, num_classes) of images (batch, 1, 28, 28) in [0, 1]."""
        x = self.relu1(self.pool1(self.conv1(x)))
        x = self.relu2(self.pool2(self.conv2(x)))
        return self.fc2(self.relu3(self.fc1(x.flatten(1))))


def convnet_mnist(num_classes: int = 10) -> ConvNet:
    """The MNIST network: 22 thousand parameters, 50 features, head `fc2`.

    Preprocessing: gray 28×28 in [0, 1], not normalized.

    Args:
        num_classes: number of logits.
    """
    return ConvNet(num_classes=num_classes)
