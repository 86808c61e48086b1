"""Sets for `banks.py`: readings of networks, drawn directions, and a network to compare with."""

import argparse
import json
import math
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import settings
import torch
from settings import SHARED
from torch import Tensor, nn

from gradood.data import Preprocess, loader, open_images
from gradood.functional.neighbors import polar
from gradood.models import REFERENCES, build, load_weights

OUTLIERS = {**settings.OUTLIERS, "tinaux": "tinyimagenet_aux"}
FILES = {"test": "cifar10_test", **OUTLIERS, "fit_a": "cifar10_train_a", "fit_b": "cifar10_train_b"}
Sets = dict[str, Tensor]
LENGTH = 20.0
"""Of the features that a drawn direction stands for: about that of a ResNet-50's."""
_GROUPS, _RANK = 8, 32
_OWN = 15.0
"""Mean logit of a class's own mean direction."""


def features(given: argparse.Namespace) -> None:
    """Write what the last layer of ResNet-20 is given, and what it gives, for every set."""
    reference = REFERENCES["resnet20"]
    network = load_weights(build("resnet20"), SHARED / f"weights/{reference.weights}.safetensors")
    head = [m for m in network.eval().modules() if isinstance(m, nn.Linear)][-1]
    given.folder.mkdir(parents=True, exist_ok=True)
    weight, bias = (p.detach().numpy() for p in (head.weight, head.bias))
    np.savez(given.folder / "head.npz", weight=weight, bias=bias)
    seen: list[Tensor] = []
    head.register_forward_pre_hook(lambda _, x: seen.append(x[0].detach()))
    for name, file in FILES.items():
        cut = "" if name in ("fit_a", "fit_b", "textures") else "[:5000]"
        images = open_images(
            f"{SHARED}/data/{file}.parquet{cut}", Preprocess(**reference.preprocess)
        )
        seen.clear()
        labels = []
        with torch.inference_mode():
            for x, y in loader(images):
                network(x)
                labels.append(y)
        x, y = torch.cat(seen).numpy(), torch.cat(labels).numpy()
        np.savez(given.folder / f"{name}.npz", features=x, labels=y)
        print(name, len(y), flush=True)


def raw(folder: Path, names: tuple[str, ...]) -> tuple[Tensor, Tensor]:
    """Features (rows, width) and labels (rows,) of some sets together."""
    kept = [np.load(folder / f"{name}.npz") for name in names]
    parts = ([torch.from_numpy(k[column]) for k in kept] for column in ("features", "labels"))
    x, y = (torch.cat(part) for part in parts)
    return x, y


def readings(folder: Path, fit: tuple[str, ...], outliers: object, cap: int) -> tuple[Tensor, Sets]:
    """Directions to fit on, and at most `cap` of each set, the known ones first."""
    names = ["test", *outliers]  # type: ignore[misc]
    sets = {name: polar(raw(folder, (name,))[0][:cap]).unit for name in names}
    return polar(raw(folder, fit)[0]).unit, sets


def last_layer(folder: Path) -> nn.Module:
    """The network's head alone."""
    kept = np.load(folder / "head.npz")
    head = nn.Linear(*reversed(kept["weight"].shape))
    head.load_state_dict({name: torch.from_numpy(kept[name]) for name in ("weight", "bias")})
    return nn.Sequential(OrderedDict(features=nn.Identity(), head=head)).eval()


class Drawn:
    """Positive features about class centers: eight kinds of variation of 32 directions, and noise.

    Outliers lie about other centers, that share a part of one class's.

    Args:
        width: of the features.
        classes: how many centers.
        seed: of everything.
    """

    def __init__(self, width: int, classes: int, seed: int) -> None:
        self._random = torch.Generator().manual_seed(seed)
        self._centers = 0.6 * self._normal(classes, width)
        self._bases = 0.5 * self._normal(_GROUPS, _RANK, width) / _RANK**0.5

    def known(self, rows: int) -> Iterator[Tensor]:
        """Directions in blocks of at most 4,096."""
        return (x for x, _ in self.labeled(rows))

    def labeled(self, rows: int) -> Iterator[tuple[Tensor, Tensor]]:
        """The same, and their classes."""
        for start in range(0, rows, 4096):
            yield self._around(min(4096, rows - start), 0.0)

    def outliers(self, rows: int, mix: float) -> Tensor:
        """Directions about centers of which a share `mix` of the square is new."""
        return self._around(rows, mix)[0]

    def head(self) -> nn.Linear:
        """Products of features of length `LENGTH` with the class means, about the common mean.

        The means are those of a rectified normal variable, in closed form.
        """
        means = torch.empty_like(self._centers)
        for group, basis in enumerate(self._bases):
            spread = (0.36 + basis.square().sum(0)).sqrt()
            shift = self._centers[group::_GROUPS] - 0.2
            place = shift / spread
            density = torch.exp(-place.square() / 2) / math.tau**0.5
            above = (1 + torch.erf(place / 2**0.5)) / 2
            means[group::_GROUPS] = shift * above + spread * density
        means = polar(means).unit
        common = means.mean(0)
        own = means - common
        sharpness = _OWN / (own * means).sum(1).mean()
        head = nn.Linear(*reversed(own.shape))
        weight = sharpness * own / LENGTH
        head.load_state_dict({"weight": weight, "bias": -LENGTH * weight @ common})
        return head.eval()

    def _around(self, rows: int, mix: float) -> tuple[Tensor, Tensor]:
        label = torch.randint(len(self._centers), (rows,), generator=self._random)
        centers = self._centers[label]
        if mix:
            new = 0.6 * self._normal(*centers.shape)
            centers = (1 - mix) ** 0.5 * centers + mix**0.5 * new
        x = centers + 0.6 * self._normal(*centers.shape) - 0.2
        for group, basis in enumerate(self._bases):
            own = (label % _GROUPS == group).nonzero()[:, 0]
            x[own] += self._normal(len(own), _RANK) @ basis
        return polar(torch.relu(x)).unit, label

    def _normal(self, *shape: int) -> Tensor:
        return torch.randn(*shape, generator=self._random)


def drawn(
    rows: int, width: int, classes: int, *, seed: int, queries: int
) -> tuple[Tensor, Sets, int]:
    """Directions to fit on, queries of three sets, and the number of classes."""
    source = Drawn(width, classes, seed)
    fit = torch.cat(list(source.known(rows)))
    return fit, query_sets(source, queries), classes


def query_sets(source: Drawn, count: int) -> Sets:
    """Known ones, and outliers near and far."""
    return {
        "test": torch.cat(list(source.known(count))),
        "near": source.outliers(count, 0.1),
        "far": source.outliers(count, 0.25),
    }


def draw(given: argparse.Namespace) -> None:
    """Write a file of drawn directions, their logits and classes, and queries beside it."""
    given.folder.mkdir(parents=True, exist_ok=True)
    source = Drawn(given.width, given.classes, given.seed)
    head, labels = source.head(), []
    weight, bias = (p.detach().numpy() for p in (head.weight, head.bias))
    np.savez(given.folder / "head.npz", weight=weight, bias=bias)
    with (given.folder / "fit.f32").open("wb") as file, torch.inference_mode():
        logits = (given.folder / "logits.f32").open("wb")
        for block, own in source.labeled(given.rows):
            file.write(block.numpy().data)
            logits.write(head(LENGTH * block).numpy().data)
            labels.append(own.numpy())
        logits.close()
    np.save(given.folder / "labels.npy", np.concatenate(labels))
    found = {name: x.numpy() for name, x in query_sets(source, 1000).items()}
    np.savez(given.folder / "queries.npz", allow_pickle=False, **found)
    facts = {name: getattr(given, name) for name in ("rows", "width", "classes", "seed")}
    (given.folder / "facts.json").write_text(json.dumps(facts))


class Peak:
    """The largest value of a figure while a block runs, looked at 20 times a second.

    Args:
        figure: gives it.
    """

    def __init__(self, figure: Callable[[], float]) -> None:
        self.most = 0.0
        self._figure = figure
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def _watch(self) -> None:
        while not self._end.wait(0.05):
            self.most = max(self.most, self._figure())

    def __enter__(self) -> "Peak":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()


class _Bottleneck(nn.Module):
    """1 × 1, 3 × 3, 1 × 1, and what goes around them."""

    def __init__(self, wide_in: int, width: int, stride: int) -> None:
        super().__init__()
        self.inner = nn.Sequential(
            *_layer(wide_in, width, 1),
            *_layer(width, width, 3, stride),
            *_layer(width, 4 * width, 1),
        )
        changes = stride > 1 or wide_in != 4 * width
        self.around = nn.Sequential(
            *(_layer(wide_in, 4 * width, 1, stride)[:2] if changes else (nn.Identity(),))
        )

    def forward(self, x: Tensor) -> Tensor:
        """The sum of both ways."""
        return self.inner(x) + self.around(x)


def _layer(wide_in: int, width: int, size: int, stride: int = 1) -> tuple[nn.Module, ...]:
    convolution = nn.Conv2d(wide_in, width, size, stride, size // 2, bias=False)
    return convolution, nn.BatchNorm2d(width), nn.ReLU(inplace=True)


def bottleneck_network() -> nn.Module:
    """50 layers, 4.1 thousand million multiplications for an image of 224 × 224."""
    blocks: list[nn.Module] = [*_layer(3, 64, 7, 2), nn.MaxPool2d(3, 2, 1)]
    wide = 64
    for stage, count in enumerate((3, 4, 6, 3)):
        width = 64 << stage
        for place in range(count):
            blocks.append(_Bottleneck(wide, width, 2 if stage and not place else 1))
            wide = 4 * width
    return nn.Sequential(*blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(wide, 1000))


def multiplications(network: nn.Module) -> int:
    """Of one image of 224 × 224, in convolutions and linear layers."""
    total = 0

    def count(layer: nn.Module, _: object, out: Tensor) -> None:
        nonlocal total
        assert isinstance(layer, nn.Conv2d | nn.Linear)
        total += layer.weight.numel() * out[0].numel() // out.shape[1]

    for layer in network.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            layer.register_forward_hook(count)
    with torch.inference_mode():
        network(torch.randn(1, 3, 224, 224))
    return total
