"""Kinds of classifier, with random weights: how each is made, what it takes, and its own logits."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

CLASSES = 4
"""Of every kind."""


@dataclass(frozen=True)
class Kind:
    """A classifier of one kind.

    Attributes:
        name: what sets it apart.
        make: builds it.
        inputs: (n, …) from a number and a generator.
        logits: what it returns → its class logits, as its author means them.
        head: name of the layer that gives the logits, where the logits are linear in features.
        options: keyword arguments of `gradood.Monitor`.
        expected: how the monitor must end: ``works``, ``refused`` or ``warned``.
    """

    name: str
    make: Callable[[], nn.Module]
    inputs: Callable[[int, torch.Generator], Tensor] = lambda n, g: torch.randn(
        n, 3, 16, 16, generator=g
    )
    logits: Callable[[Any], Tensor] = lambda out: out
    head: str | None = "fc"
    options: dict[str, Any] = field(default_factory=dict)
    expected: str = "works"


class Convolutional(nn.Module):
    """Two convolutions with normalization, pooled, and what `give` makes of logits and features."""

    def __init__(
        self,
        give: Callable[[Tensor, Tensor, nn.Module], Any] = lambda z, h, m: z,
        norm: Callable[[int], nn.Module] = nn.BatchNorm2d,
        act: Callable[[], nn.Module] = nn.ReLU,
        classes: int = CLASSES,
    ) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1), norm(8), act(),
            nn.Conv2d(8, 16, 3, padding=1, stride=2), norm(16), act(),
        )  # fmt: skip
        self.fc, self.aux, self.give = nn.Linear(16, classes), nn.Linear(16, 6), give

    def forward(self, x: Tensor) -> Any:
        """Logits, or what is given."""
        h = self.body(x).mean((2, 3))
        return self.give(self.fc(h), h, self)


class Residual(nn.Module):
    """A residual block, whose activation may be shared."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.a, self.b = (nn.Conv2d(c, 8, 3, padding=1) for c in (3, 8, 8))
        self.norm, self.norm_a, self.norm_b = (nn.BatchNorm2d(8) for _ in range(3))
        self.relu, self.fc = nn.ReLU(inplace=True), nn.Linear(8, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        """Logits."""
        x = self.relu(self.norm(self.stem(x)))
        y = self.norm_b(self.b(self.relu(self.norm_a(self.a(x)))))
        return self.fc(self.relu(x + y).mean((2, 3)))


class Dense(nn.Module):
    """Layers that each take all before them."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            nn.Sequential(nn.BatchNorm2d(c), nn.ReLU(), nn.Conv2d(c, 4, 3, padding=1))
            for c in (3, 7, 11)
        )
        self.norm, self.fc = nn.BatchNorm2d(15), nn.Linear(15, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        """Logits."""
        for layer in self.layers:
            x = torch.cat([x, layer(x)], 1)
        return self.fc(F.relu(self.norm(x)).mean((2, 3)))


class Recurrent(nn.Module):
    """An LSTM over the rows of an image."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm, self.fc = nn.LSTM(48, 16, batch_first=True), nn.Linear(16, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        """Logits."""
        return self.fc(self.lstm(x.transpose(1, 2).flatten(2))[0][:, -1])


class Tokens(nn.Module):
    """A transformer over token ids."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(50, 16)
        self.layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
        self.fc = nn.Linear(16, CLASSES)

    def forward(self, ids: Tensor) -> Tensor:
        """Logits."""
        return self.fc(self.layer(self.embed(ids)).mean(1))


class Cosine(nn.Module):
    """Logits that are scaled cosines."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.weight = Convolutional(), nn.Parameter(torch.randn(CLASSES, 16))

    def forward(self, x: Tensor) -> Tensor:
        """Logits."""
        h = self.body.body(x).mean((2, 3))
        return 10 * F.normalize(h) @ F.normalize(self.weight).T


class Wrapped(nn.Module):
    """A model held by another, with what is done to its output."""

    def __init__(self, inner: nn.Module, after: Callable[[Any], Any]) -> None:
        super().__init__()
        self.inner, self.after = inner, after

    def forward(self, x: Tensor) -> Any:
        """What `after` makes of it."""
        return self.after(self.inner(x))


class Noisy(Convolutional):
    """Dropout that evaluation mode does not switch off."""

    def forward(self, x: Tensor) -> Tensor:
        """Logits."""
        return self.fc(F.dropout(self.body(x).mean((2, 3)), 0.5, training=True))


class Checked(Convolutional):
    """Raises on inputs of another size than it was made for, with an error of its own."""

    def forward(self, x: Tensor) -> Any:
        """Logits."""
        if x.shape[-1] != 16:
            raise ValueError("expected 16 pixels")
        return super().forward(x)


def negative() -> nn.Module:
    """Logits that are all negative."""
    model = Convolutional()
    nn.init.constant_(model.fc.bias, -20.0)
    return model


def hugging_face(kind: str) -> nn.Module:
    """A small model of Transformers."""
    import transformers as hf

    small = {"hidden_size": 32, "num_attention_heads": 2, "intermediate_size": 32}
    if kind == "vit":
        config = hf.ViTConfig(
            **small, num_hidden_layers=2, image_size=16, patch_size=4, num_labels=CLASSES
        )
        return hf.ViTForImageClassification(config)
    if kind == "bert":
        config = hf.BertConfig(
            **small, num_hidden_layers=2, vocab_size=50, num_labels=CLASSES,
            max_position_embeddings=16,
        )  # fmt: skip
        return hf.BertForSequenceClassification(config)
    if kind == "convnext":
        config = hf.ConvNextConfig(
            num_labels=CLASSES, hidden_sizes=[8, 8, 16, 16], depths=[1, 1, 1, 1], patch_size=1
        )
        return hf.ConvNextForImageClassification(config)
    config = hf.ResNetConfig(
        embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic",
        num_labels=CLASSES,
    )  # fmt: skip
    return hf.ResNetForImageClassification(config)


def quantized() -> nn.Module:
    """Linear layers in 8 bits."""
    return torch.ao.quantization.quantize_dynamic(Convolutional().eval(), {nn.Linear})


def ids(n: int, g: torch.Generator) -> Tensor:
    """(n, 12) token ids."""
    return torch.randint(0, 50, (n, 12), generator=g)


def typed(dtype: torch.dtype) -> Callable[[int, torch.Generator], Tensor]:
    """Images of another type."""
    return lambda n, g: torch.randn(n, 3, 16, 16, generator=g).to(dtype)


def _of(output: str) -> Callable[[Any], Tensor]:
    return lambda out: out[output]


def tupled(give: Callable[[Tensor, Tensor, nn.Module], Any]) -> Callable[[], nn.Module]:
    """A network with several outputs."""
    return lambda: Convolutional(give)


def _after(after: Callable[[Any], Any], **kwargs: Any) -> dict[str, Any]:
    return {"make": lambda: Wrapped(Convolutional(), after), "head": None, **kwargs}


KINDS: tuple[Kind, ...] = (
    Kind("plain CNN with BatchNorm", Convolutional),
    Kind("GroupNorm", lambda: Convolutional(norm=lambda c: nn.GroupNorm(4, c))),
    Kind("no normalization", lambda: Convolutional(norm=lambda c: nn.Identity())),
    Kind("GELU", lambda: Convolutional(act=nn.GELU)),
    Kind("residual, one ReLU for all, in place", Residual),
    Kind("densely connected", Dense),
    Kind("1×1 convolution as head", lambda: nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Conv2d(8, CLASSES, 1),
        nn.Flatten()), head="3"),
    Kind("MLP", lambda: nn.Sequential(
        nn.Flatten(), nn.Linear(768, 16), nn.ReLU(), nn.Linear(16, CLASSES)), head="3"),
    Kind("LSTM", Recurrent),
    Kind("transformer over tokens", Tokens, ids),
    Kind("Hugging Face ViT", lambda: hugging_face("vit"), logits=lambda o: o.logits,
         head="classifier"),
    Kind("Hugging Face BERT", lambda: hugging_face("bert"), ids, lambda o: o.logits, "classifier"),
    Kind("Hugging Face ConvNeXt", lambda: hugging_face("convnext"), logits=lambda o: o.logits,
         head="classifier"),
    Kind("Hugging Face ResNet", lambda: hugging_face("resnet"), logits=lambda o: o.logits,
         head="classifier.1"),
    Kind("two classes", lambda: Convolutional(classes=2)),
    Kind("all logits negative", negative),
    Kind("bfloat16", lambda: Convolutional().bfloat16(), typed(torch.bfloat16)),
    Kind("float16", lambda: Convolutional().half(), typed(torch.float16)),
    Kind("float64", lambda: Convolutional().double(), typed(torch.float64)),
    Kind("channels last", lambda: Convolutional().to(memory_format=torch.channels_last)),
    Kind("frozen", lambda: Convolutional().requires_grad_(False)),
    Kind("compiled", lambda: torch.compile(Convolutional(), backend="eager")),
    Kind("DataParallel", lambda: nn.DataParallel(Convolutional()), head="module.fc"),
    Kind("weight norm on the head", lambda: _weight_normed()),
    Kind("dynamically quantized linear layers", quantized, head=None, expected="refused"),
    Kind("checks its input", Checked),
    Kind("(logits, features)", tupled(lambda z, h, m: (z, h)), logits=lambda o: o[0]),
    Kind("(logits, probabilities)", tupled(lambda z, h, m: (z, z.softmax(1))),
         logits=lambda o: o[0]),
    Kind("(features, logits)", tupled(lambda z, h, m: (h, z)), logits=lambda o: o[1],
         expected="refused"),
    Kind("(auxiliary, logits)", tupled(lambda z, h, m: (m.aux(h), z)), logits=lambda o: o[1],
         expected="refused"),
    Kind("(auxiliary, logits), output=1", tupled(lambda z, h, m: (m.aux(h), z)),
         logits=lambda o: o[1], options={"output": 1}),
    Kind("{'logits': …, 'aux': …}", tupled(lambda z, h, m: {"aux": m.aux(h), "logits": z}),
         logits=_of("logits")),
    Kind("{'out': …}", tupled(lambda z, h, m: {"out": z}), logits=_of("out"), expected="refused"),
    Kind("{'out': …}, output='out'", tupled(lambda z, h, m: {"out": z}), logits=_of("out"),
         options={"output": "out"}),
    Kind("a list of scales, output=function", tupled(lambda z, h, m: [[m.aux(h)], [z]]),
         logits=lambda o: o[1][0], options={"output": lambda o: o[1][0]}),
    Kind("softmax at the end", **_after(lambda z: z.softmax(1)), expected="warned"),
    Kind("log-softmax at the end", **_after(lambda z: z.log_softmax(1)), expected="warned"),
    Kind("sigmoid at the end", **_after(torch.sigmoid), expected="warned"),
    Kind("percentages", **_after(lambda z: 100 * z.softmax(1)), expected="warned"),
    Kind("softmax without its operation", **_after(lambda z: z.exp() / z.exp().sum(1, True)),
         expected="warned"),
    Kind("negated log-probabilities", **_after(lambda z: -z.log_softmax(1)), expected="warned"),
    Kind("temperature after the head", **_after(lambda z: z / 1.7)),
    Kind("cosine head", Cosine, head=None),
    Kind("dropout in evaluation mode", Noisy, head=None, expected="refused"),
    Kind("one logit", lambda: Convolutional(classes=1), expected="warned"),
    Kind("TorchScript", lambda: torch.jit.script(nn.Sequential(nn.Flatten(), nn.Linear(768, 4))),
         head=None, expected="refused"),
)  # fmt: skip


def _weight_normed() -> nn.Module:
    model = Convolutional()
    nn.utils.parametrizations.weight_norm(model.fc)
    return model
