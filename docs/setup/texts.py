"""A zero-shot classifier of the demo's images, its encoder not trained: model, images."""

import torch
from gradood.data import Preprocess, loader, open_images
from torch import Tensor, nn

import gradood


class Encoder(nn.Module):
    """Embeddings (batch, 16) of images, and of their four quarters (batch, 4, 16)."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(1, 16, 4, stride=4)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Both, as a tuple."""
        local = self.patches(x).flatten(2).transpose(1, 2)
        return local.mean(1), local


torch.manual_seed(0)
texts, negatives = torch.randn(8, 16), torch.randn(200, 16)
model = gradood.zero_shot(Encoder(), texts, negatives)
images, labels = next(iter(loader(open_images("demo/test[:16]", Preprocess(mode="L")))))
