"""Small classifiers of several inputs: token ids with a mask, sequences, and tables."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from gradood.taps import logits_of

__all__ = [
    "CausalDecoder",
    "FTTransformer",
    "INPUT_NETWORKS",
    "InputNetwork",
    "LSTMClassifier",
    "MaskedEncoder",
    "TableClassifier",
    "series",
    "tables",
    "texts",
]

_WORDS, _LENGTH = 40, 64


class MaskedEncoder(nn.Module):
    """Token ids with a mask, as BERT: two layers of attention, then the first token or a mean.

    Args:
        classes: number of logits.
        pool: ``"first"`` for the first token through a dense layer, ``"mean"`` for the mean of the
            positions that count.
        width: of the states.
    """

    def __init__(self, classes: int, pool: str = "first", width: int = 16) -> None:
        super().__init__()
        self.word = nn.Embedding(_WORDS, width)
        self.position = nn.Embedding(_LENGTH, width)
        layer = nn.TransformerEncoderLayer(
            width, 2, 2 * width, dropout=0.1, activation="gelu", batch_first=True
        )
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.dense = nn.Linear(width, width)
        self.head = nn.Linear(width, classes)
        self.pool = pool

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Logits (batch, classes)."""
        places = torch.arange(input_ids.shape[1], device=input_ids.device)
        x = self.word(input_ids) + self.position(places)
        x = self.encoder(x, src_key_padding_mask=attention_mask == 0)
        if self.pool == "first":
            return self.head(torch.tanh(self.dense(x[:, 0])))
        weights = attention_mask.to(x.dtype)[:, :, None]
        return self.head((x * weights).sum(1) / weights.sum(1).clamp_min(1))


class CausalDecoder(nn.Module):
    """Token ids with a mask, as GPT-2 with a score head: logits of the last token that counts.

    Args:
        classes: number of logits.
        width: of the states.
    """

    def __init__(self, classes: int, width: int = 16) -> None:
        super().__init__()
        self.word = nn.Embedding(_WORDS, width)
        self.position = nn.Embedding(_LENGTH, width)
        self.norm = nn.LayerNorm(width)
        self.attention = nn.MultiheadAttention(width, 2, batch_first=True)
        self.last = nn.LayerNorm(width)
        self.score = nn.Linear(width, classes, bias=False)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Logits (batch, classes)."""
        length = input_ids.shape[1]
        places = torch.arange(length, device=input_ids.device)
        x = self.word(input_ids) + self.position(places)
        later = places[:, None] < places
        normed = self.norm(x)
        x = x + self.attention(normed, normed, normed, attn_mask=later, need_weights=False)[0]
        logits = self.score(self.last(x))
        last = attention_mask.long().sum(1).clamp_min(1) - 1
        return logits[torch.arange(len(x), device=x.device), last]


class LSTMClassifier(nn.Module):
    """Sequences of numbers (batch, length, 6) with their lengths: the last state that counts.

    Args:
        classes: number of logits.
        width: of the states.
    """

    def __init__(self, classes: int, width: int = 16) -> None:
        super().__init__()
        self.lstm = nn.LSTM(6, width, batch_first=True)
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, classes)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        """Logits (batch, classes)."""
        states, _ = self.lstm(x)
        last = states[torch.arange(len(x), device=x.device), lengths.clamp_min(1) - 1]
        return self.head(self.norm(last))


class TableClassifier(nn.Module):
    """Numbers (batch, 6) beside categories (batch, 2).

    Args:
        classes: number of logits.
        width: of the hidden layers.
    """

    def __init__(self, classes: int, width: int = 16) -> None:
        super().__init__()
        self.embed = nn.ModuleList([nn.Embedding(3, 4), nn.Embedding(7, 4)])
        self.linear1 = nn.Linear(14, width)
        self.linear2 = nn.Linear(width, width)
        self.head = nn.Linear(width, classes)

    def forward(self, numbers: Tensor, categories: Tensor) -> Tensor:
        """Logits (batch, classes)."""
        parts = [embed(categories[:, i]) for i, embed in enumerate(self.embed)]
        x = torch.relu(self.linear1(torch.cat([numbers, *parts], 1)))
        return self.head(torch.relu(self.linear2(x)))


class FTTransformer(nn.Module):
    """A transformer over the features of a table: numbers and categories are tokens, CLS is read.

    Args:
        classes: number of logits.
        width: of the tokens.
    """

    def __init__(self, classes: int, width: int = 16) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(6, width))
        self.bias = nn.Parameter(torch.randn(6, width))
        self.cls = nn.Parameter(torch.randn(1, 1, width))
        self.embed = nn.ModuleList([nn.Embedding(3, width), nn.Embedding(7, width)])
        layer = nn.TransformerEncoderLayer(
            width, 2, 2 * width, activation="gelu", batch_first=True, norm_first=True
        )
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, classes)

    def forward(self, numbers: Tensor, categories: Tensor) -> Tensor:
        """Logits (batch, classes)."""
        tokens = numbers[:, :, None] * self.weight + self.bias
        parts = [embed(categories[:, i])[:, None] for i, embed in enumerate(self.embed)]
        x = torch.cat([self.cls.expand(len(numbers), -1, -1), tokens, *parts], 1)
        return self.head(torch.relu(self.norm(self.encoder(x)[:, 0])))


@dataclass(frozen=True, eq=False)
class InputNetwork:
    """A named way to build one seeded classifier of several inputs, and batches for it.

    Attributes:
        name: kebab-case.
        architecture: number of classes → a module with random weights.
        draw: rows and a generator → keyword arguments of a batch.
        classes: number of logits.
    """

    name: str
    architecture: Callable[[int], nn.Module]
    draw: Callable[[int, torch.Generator], dict[str, Tensor]]
    classes: int = 5

    def model(self) -> nn.Module:
        """The classifier, in evaluation mode, with logits of a spread at which classes differ."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(len(self.name))
            model = self.architecture(self.classes).eval()
        head = [m for m in model.modules() if isinstance(m, nn.Linear)][-1]
        with torch.no_grad():
            some = self.batch(256, seed=9)
            head.weight.mul_(2.0 / logits_of(model(**some)).std(0).mean().clamp_min(1e-3))
            if head.bias is not None:
                head.bias.sub_(logits_of(model(**some)).mean(0))
        return model.requires_grad_(False)

    def batch(self, n: int, seed: int = 0) -> dict[str, Tensor]:
        """Keyword arguments of n rows, padded to the longest."""
        return self.draw(n, torch.Generator().manual_seed(1000 + seed))


def texts(n: int, generator: torch.Generator, words: int = _WORDS) -> dict[str, Tensor]:
    """Token ids of 4 to 14 words, padded with 0, and their mask."""
    counts = torch.randint(4, 15, (n,), generator=generator)
    mask = (torch.arange(14) < counts[:, None]).long()
    ids = torch.randint(3, words, (n, 14), generator=generator)
    return {"input_ids": ids * mask, "attention_mask": mask}


def series(n: int, generator: torch.Generator) -> dict[str, Tensor]:
    """Sequences of 4 to 14 vectors, padded with zeros, and their lengths."""
    counts = torch.randint(4, 15, (n,), generator=generator)
    mask = (torch.arange(14) < counts[:, None])[:, :, None]
    return {"x": torch.randn(n, 14, 6, generator=generator) * mask, "lengths": counts}


def tables(n: int, generator: torch.Generator) -> dict[str, Tensor]:
    """Numbers, and categories of which each column has its own range."""
    columns = [torch.randint(0, size, (n,), generator=generator) for size in (3, 7)]
    numbers = torch.randn(n, 6, generator=generator)
    return {"numbers": numbers, "categories": torch.stack(columns, 1)}


INPUT_NETWORKS = {
    network.name: network
    for network in (
        InputNetwork("masked-first", MaskedEncoder, texts),
        InputNetwork("masked-mean", lambda classes: MaskedEncoder(classes, "mean"), texts),
        InputNetwork("causal", CausalDecoder, texts),
        InputNetwork("lstm", LSTMClassifier, series),
        InputNetwork("table", TableClassifier, tables),
        InputNetwork("ft-transformer", FTTransformer, tables),
    )
}
"""By name."""
