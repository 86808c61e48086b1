"""A zero-shot classifier in float64, and what it makes of some inputs."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

import gradood

CLASSES, NEGATIVES, WIDTH = 4, 9, 6


class Encoder(nn.Module):
    """Two convolutions, a projection of every position, and the mean."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 8, 3, padding=1)
        self.conv2 = nn.Conv2d(8, 8, 3, stride=2, padding=1)
        self.projection = nn.Linear(8, WIDTH)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = torch.relu(self.conv2(torch.relu(self.conv1(x))))
        local = self.projection(x.flatten(2).mT)
        return local.mean(1), local


@dataclass(frozen=True)
class Pair:
    """What was given, and what the encoder returns."""

    model: nn.Module
    x: Tensor
    texts: Tensor
    negatives: Tensor
    images: Tensor
    local: Tensor


def pair(negatives: int = NEGATIVES) -> Pair:
    generator = torch.Generator().manual_seed(3)

    def drawn(*size: int) -> Tensor:
        return torch.randn(size, generator=generator, dtype=torch.float64)

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(4)
        encoder = Encoder().double().eval()
    texts, other, x = 3 * drawn(CLASSES, WIDTH), drawn(negatives, WIDTH), drawn(7, 3, 6, 6)
    with torch.no_grad():
        images, local = encoder(x)
    model = gradood.zero_shot(encoder, texts, other, scale=37.0)
    return Pair(model, x, texts, other, images, local)
