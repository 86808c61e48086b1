"""Small classifiers, one per family that a user may bring; each is a handful of layers."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gradood._zero_shot import ZeroShotClassifier, zero_shot

__all__ = [
    "ConvHead",
    "DictOutput",
    "FlattenCNN",
    "GroupNormNet",
    "MLP",
    "PlainCNN",
    "PostActivationResNet",
    "PreActivationDenseNet",
    "TinyTransformer",
    "zero_shot_pair",
]


class PlainCNN(nn.Module):
    """Two conv-BatchNorm-ReLU, mean pool, dropout, a linear head."""

    def __init__(
        self, classes: int, *, inplace: bool = False, bias: bool = True, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.inplace = inplace
        self.conv1 = nn.Conv2d(3, 8, 3, padding=1)
        self.norm1 = nn.BatchNorm2d(8)
        self.conv2 = nn.Conv2d(8, 12, 3, padding=1)
        self.norm2 = nn.BatchNorm2d(12)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(12, classes, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.norm1(self.conv1(x)), inplace=self.inplace)
        x = F.relu(self.norm2(self.conv2(x)), inplace=self.inplace)
        return self.head(self.dropout(x.mean((2, 3))))


class _ResidualBlock(nn.Module):
    """conv-norm-ReLU-conv-norm plus the input or its projection, then the same in-place ReLU."""

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
        inner = self.norm2(self.conv2(self.relu(self.norm1(self.conv1(x)))))
        return self.relu(inner + self.shortcut(x))


class PostActivationResNet(nn.Module):
    """Stem, an identity block, a projection block of stride 2, mean pool, head."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(8)
        self.relu = nn.ReLU(inplace=True)
        self.layer1 = _ResidualBlock(8, 8, stride=1)
        self.layer2 = _ResidualBlock(8, 12, stride=2)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.head = nn.Linear(12, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.layer2(self.layer1(self.relu(self.norm(self.conv(x)))))
        return self.head(self.pool(x).flatten(1))


class _DenseLayer(nn.Module):
    """norm, in-place ReLU, conv; the new channels are appended to the input."""

    def __init__(self, inputs: int, growth: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(inputs)
        self.relu = nn.ReLU(inplace=True)
        self.conv = nn.Conv2d(inputs, growth, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x, self.conv(self.relu(self.norm(x)))], dim=1)


class PreActivationDenseNet(nn.Module):
    """Two dense stages with a transition, final norm and in-place ReLU, mean pool, head."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 6, 3, padding=1, bias=False)
        self.block1 = nn.Sequential(_DenseLayer(6, 4), _DenseLayer(10, 4))
        self.transition = nn.Sequential(
            nn.BatchNorm2d(14),
            nn.ReLU(inplace=True),
            nn.Conv2d(14, 8, 1, bias=False),
            nn.AvgPool2d(2),
        )
        self.block2 = nn.Sequential(_DenseLayer(8, 4), _DenseLayer(12, 4))
        self.norm = nn.BatchNorm2d(16)
        self.relu = nn.ReLU(inplace=True)
        self.head = nn.Linear(16, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.block2(self.transition(self.block1(self.conv(x))))
        return self.head(F.adaptive_avg_pool2d(self.relu(self.norm(x)), 1).flatten(1))


class _GroupNormBlock(nn.Module):
    """norm-ReLU-conv twice, added to the input or its projection."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(2, inputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
        self.norm2 = nn.GroupNorm(2, outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.project: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.project = nn.Conv2d(inputs, outputs, 1, stride=stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        inner = self.conv1(F.relu(self.norm1(x)))
        return self.project(x) + self.conv2(F.relu(self.norm2(inner)))


class GroupNormNet(nn.Module):
    """Pre-activation residual network with GroupNorm, as BiT."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1, bias=False)
        self.block1 = _GroupNormBlock(8, 8, stride=1)
        self.block2 = _GroupNormBlock(8, 12, stride=2)
        self.norm = nn.GroupNorm(2, 12)
        self.head = nn.Linear(12, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.norm(self.block2(self.block1(self.stem(x)))))
        return self.head(x.mean((2, 3)))


class _AttentionBlock(nn.Module):
    """Pre-norm attention (whose module returns a tuple) and a GELU perceptron."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.attention = nn.MultiheadAttention(width, 2, batch_first=True)
        self.norm2 = nn.LayerNorm(width)
        self.inner = nn.Linear(width, 2 * width)
        self.outer = nn.Linear(2 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm1(x)
        x = x + self.attention(y, y, y, need_weights=False)[0]
        return x + self.outer(F.gelu(self.inner(self.norm2(x))))


class TinyTransformer(nn.Module):
    """Patches of 4×4, a class token, two blocks (one is torch's own), LayerNorm, head."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.patch = nn.Conv2d(3, 12, 4, stride=4)
        self.token = nn.Parameter(torch.randn(1, 1, 12))
        self.place = nn.Parameter(0.5 * torch.randn(1, 5, 12))
        self.block1 = _AttentionBlock(12)
        self.block2 = nn.TransformerEncoderLayer(
            12, 2, 24, dropout=0.1, activation="gelu", batch_first=True, norm_first=True
        )
        self.norm = nn.LayerNorm(12)
        self.head = nn.Linear(12, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patch(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(len(x), -1, -1), x], dim=1) + self.place
        return self.head(self.norm(self.block2(self.block1(x)))[:, 0])


class MLP(nn.Module):
    """Two hidden layers without normalization on vectors of 12, head."""

    def __init__(self, classes: int, activation: nn.Module) -> None:
        super().__init__()
        self.linear1 = nn.Linear(12, 16)
        self.linear2 = nn.Linear(16, 14)
        self.activation = activation
        self.head = nn.Linear(14, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.activation(self.linear1(x))
        return self.head(self.activation(self.linear2(x)))


class ConvHead(nn.Module):
    """Fully convolutional: a 1×1 convolution gives class maps, whose mean is the logits."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1, bias=False),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(8, 12, 3, padding=1, bias=False),
            nn.BatchNorm2d(12),
            nn.ReLU(),
        )
        self.classifier = nn.Conv2d(12, classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.body(x)).mean((2, 3))


class FlattenCNN(nn.Module):
    """Strides and a max pool on odd sizes; the map itself, flattened, is the features."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 7, 3, stride=2)
        self.norm1 = nn.BatchNorm2d(7)
        self.conv2 = nn.Conv2d(7, 5, 3, stride=2, padding=1)
        self.norm2 = nn.BatchNorm2d(5)
        self.relu = nn.ReLU()
        self.head = nn.Linear(20, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(self.relu(self.norm1(self.conv1(x))), 2, stride=1)
        x = self.relu(self.norm2(self.conv2(x)))
        return self.head(x.flatten(1))


class DictOutput(nn.Module):
    """A classifier whose output is a mapping, as Hugging Face models give."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        logits = self.body(x)
        return {"loss": logits.sum(), "logits": logits}


class _ImageEncoder(nn.Module):
    """Two convolutions and a projection of every position; their mean is the embedding."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 8, 3, padding=1)
        self.norm1 = nn.BatchNorm2d(8)
        self.conv2 = nn.Conv2d(8, 12, 3, stride=2, padding=1)
        self.norm2 = nn.BatchNorm2d(12)
        self.projection = nn.Linear(12, 10)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = F.relu(self.norm1(self.conv1(x)))
        x = F.relu(self.norm2(self.conv2(x)))
        local = self.projection(x.flatten(2).mT)
        return local.mean(1), local


def zero_shot_pair(classes: int) -> ZeroShotClassifier:
    """An image encoder with local features, and random texts of the classes and of 7 negatives."""
    text, negatives = torch.randn(classes, 10), torch.randn(7, 10)
    return zero_shot(_ImageEncoder(), text, negatives, scale=20.0)
