"""Networks of texts, sound, bytes and tables, written from the words of ../shared/README.md.

Each is a factory that the shell names, with the file of its weights:

    PYTHONPATH=benchmarks gradood fit --model any_networks:minilm \
        --weights ../shared/text/minilm_clinc150.safetensors --data train.parquet --input-column ids
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["Magika", "MiniLM", "SpeechNet", "TableNet", "dscnn", "magika", "minilm", "table_net"]

_WIDTH, _HEADS, _LAYERS, _INNER, _POSITIONS, _WORDS = 384, 12, 6, 1536, 512, 30_522


class _Block(nn.Module):
    """A layer of BERT: attention and a feed-forward part, each with a norm after it."""

    def __init__(self) -> None:
        super().__init__()
        self.query = nn.Linear(_WIDTH, _WIDTH)
        self.key = nn.Linear(_WIDTH, _WIDTH)
        self.value = nn.Linear(_WIDTH, _WIDTH)
        self.out = nn.Linear(_WIDTH, _WIDTH)
        self.norm1 = nn.LayerNorm(_WIDTH, eps=1e-12)
        self.fc1 = nn.Linear(_WIDTH, _INNER)
        self.fc2 = nn.Linear(_INNER, _WIDTH)
        self.norm2 = nn.LayerNorm(_WIDTH, eps=1e-12)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        parts = (layer(x).unflatten(2, (_HEADS, -1)).transpose(1, 2) for layer in self._projections)
        query, key, value = parts
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        x = self.norm1(x + self.out(mixed.transpose(1, 2).flatten(2)))
        return self.norm2(x + self.fc2(F.gelu(self.fc1(x))))

    @property
    def _projections(self) -> tuple[nn.Linear, nn.Linear, nn.Linear]:
        return self.query, self.key, self.value


class MiniLM(nn.Module):
    """A text transformer: BERT with 6 layers, the mean of the unpadded states, and a head.

    Args:
        num_classes: intents.
    """

    def __init__(self, num_classes: int = 150) -> None:
        super().__init__()
        self.word = nn.Embedding(_WORDS, _WIDTH)
        self.position = nn.Embedding(_POSITIONS, _WIDTH)
        self.kind = nn.Embedding(2, _WIDTH)
        self.norm = nn.LayerNorm(_WIDTH, eps=1e-12)
        self.layers = nn.ModuleList([_Block() for _ in range(_LAYERS)])
        self.head = nn.Linear(_WIDTH, num_classes)

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        """Logits (batch, classes) of token ids (batch, length); 0 is padding."""
        kept = input_ids != 0 if attention_mask is None else attention_mask != 0
        places = torch.arange(input_ids.shape[1], device=input_ids.device)
        x = self.norm(self.word(input_ids) + self.position(places) + self.kind.weight[0])
        for layer in self.layers:
            x = layer(x, kept[:, None, None, :])
        weights = kept.to(x.dtype)[:, :, None]
        return self.head((x * weights).sum(1) / weights.sum(1))


class SpeechNet(nn.Module):
    """Keyword spotting by separable convolutions on MFCC (batch, 1, 49, 10).

    Args:
        num_classes: words, silence and unknown.
    """

    def __init__(self, num_classes: int = 12) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 64, (10, 4), stride=2)
        self.dw = nn.ModuleList([nn.Conv2d(64, 64, 3, padding=1, groups=64) for _ in range(4)])
        self.pw = nn.ModuleList([nn.Conv2d(64, 64, 1) for _ in range(4)])
        self.fc = nn.Linear(64, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (batch, classes)."""
        # TensorFlow's 'SAME' padding of 49×10 at stride 2 by a kernel of 10×4.
        x = F.relu(self.conv(F.pad(x, (1, 1, 4, 5))))
        for depthwise, pointwise in zip(self.dw, self.pw, strict=True):
            x = F.relu(pointwise(F.relu(depthwise(x))))
        return self.fc(x.mean((2, 3)))


class Magika(nn.Module):
    """File types from 2,048 bytes as ids (batch, 2048); 256 is padding.

    Args:
        num_classes: of files.
    """

    def __init__(self, num_classes: int = 214) -> None:
        super().__init__()
        self.embed = nn.Linear(257, 64)
        self.norm1_weight = nn.Parameter(torch.ones(512))
        self.norm1_bias = nn.Parameter(torch.zeros(512))
        self.conv = nn.Conv1d(256, 512, 5)
        self.norm2 = nn.LayerNorm(512, eps=1e-6)
        self.head = nn.Linear(512, num_classes)

    def forward(self, ids: Tensor) -> Tensor:
        """Logits (batch, classes)."""
        x = F.gelu(self.embed(F.one_hot(ids, 257).to(self.embed.weight.dtype)), approximate="tanh")
        x = x.reshape(len(x), 512, 256).transpose(1, 2)  # (batch, 256, 512 positions)
        x = F.layer_norm(x, (512,), self.norm1_weight, self.norm1_bias, 1e-6)
        x = F.gelu(self.conv(x), approximate="tanh")
        return self.head(self.norm2(x.amax(2)))


class TableNet(nn.Module):
    """A classifier of 64 features: two hidden layers.

    Args:
        num_classes: known digits.
        features: columns.
    """

    def __init__(self, num_classes: int = 9, features: int = 64) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(features)
        self.fc1 = nn.Linear(features, 128)
        self.fc2 = nn.Linear(128, 64)
        self.head = nn.Linear(64, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (batch, classes)."""
        return self.head(F.relu(self.fc2(F.relu(self.fc1(self.norm(x))))))


def minilm(num_classes: int = 150) -> MiniLM:
    """`MiniLM`, with random weights."""
    return MiniLM(num_classes)


def dscnn(num_classes: int = 12) -> SpeechNet:
    """`SpeechNet`, with random weights."""
    return SpeechNet(num_classes)


def magika(num_classes: int = 214) -> Magika:
    """`Magika`, with random weights."""
    return Magika(num_classes)


def table_net(num_classes: int = 9) -> TableNet:
    """`TableNet`, with random weights."""
    return TableNet(num_classes)
