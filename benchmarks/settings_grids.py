"""Settings of every method that are tried for the row in hindsight, and published ones by network.

A grid is a list of options; the automatic and the published setting are always tried beside it.
"""

from collections.abc import Iterable, Mapping
from itertools import product
from typing import Any

__all__ = ["GRIDS", "grid", "published"]

Options = dict[str, Any]


def _products(**values: Iterable[Any]) -> list[Options]:
    return [dict(zip(values, choice, strict=True)) for choice in product(*values.values())]


_SHARES = _products(percentile=(0, 20, 40, 50, 60, 65, 70, 75, 80, 85, 90, 92.5, 95, 97.5))
_SUBSPACES = _products(threshold=(0.8, 0.9, 0.95, 0.97, 0.99, 0.999))
_DIMENSIONS = _products(dimension=(4, 9, 16, 32, 48, 128, 512))
_ADASCALE = _products(p_min=(40, 60, 75, 85), p_max=(60, 70, 85, 90, 95))
_STEPS = [*_products(noise=(0.0005, 0.0014, 0.004)), {"temperature": 1.0}]

GRIDS: dict[str, list[Options]] = {
    **dict.fromkeys(("ash-b", "ash-p", "ash-s", "scale", "lts"), _SHARES),
    **dict.fromkeys(("gradorth", "projection-share"), _SUBSPACES),
    **dict.fromkeys(("vim", "residual"), _DIMENSIONS),
    **dict.fromkeys(("adascale-a", "adascale-l"), _ADASCALE),
    **dict.fromkeys(("odin", "i-odin"), _STEPS),
    "actsub": _products(percentile=(0, 50, 70, 85, 95), lam=(0.5, 1, 2)),
    "blood": _products(pairs=("last", "mean")),
    "cadref": _products(score=("energy", "gen", "msp", "max-logit")),
    "davis": [{"statistic": "max"}, *_products(gamma=(0.5, 1.0, 2.0, 4.0))],
    "dice": _products(percentile=(0, 10, 30, 50, 70, 80, 85, 90, 95)),
    "energy": _products(temperature=(0.5, 1.0, 2.0, 10.0, 100.0)),
    "exgrad": _products(order=(1, 2), bias=(True, False)),
    "fdbd": _products(distance_as_normalizer=(True, False)),
    "gaia-a": [{"last": "pooled"}],
    "gen": _products(gamma=(0.01, 0.1, 0.5), M=(5, 10, 100)),
    "gradnorm": _products(order=(1, 2), bias=(False, True), temperature=(1.0, 10.0)),
    "gradpca": _products(output=("sum", "max"), epsilon=(0.9, 0.99, 0.999)),
    "gram": [
        *_products(samples=(16, 64, None)),
        *_products(powers=((1,), (2,), (1, 2, 3, 4, 5)), samples=(64, None)),
    ],
    "grood": [
        *_products(ood_prototype=("synthetic", "noise", "class-mean"), k=(1, 5)),
        {"score": "norm"},
        {"bank": "all"},
    ],
    "itp": _products(percentile=(0, 10, 20, 30, 50), deviations=(1.6, 2.2, 3.0)),
    "knn": _products(k=(1, 5, 10, 20, 50, 100, 200)),
    "line": _products(
        weight_percentile=(10, 50, 70, 90),
        activation_percentile=(10, 50, 90),
        clip=("auto", 0.8, 1.0, 1.5, 2.0, 3.0),
    ),
    "logit-gap": _products(N=(2, 4, 6, 10, 89)),
    "low-dim-grad": _products(k=(1, 5, 10, 20)),
    "nac": _products(layers=(None, ()), alpha=("auto", 10.0, 100.0, 1000.0), r=(5, 50)),
    "nci": _products(alpha=(0.0, 1e-4, 1e-3, 1e-2, 0.1)),
    "neco": _products(dimension=(5, 9, 12, 20, 40), max_logit=(False, True)),
    "nnguide": _products(k=(1, 5, 10, 50, 100), alpha=(0.01, 0.1, 1.0)),
    "open-max": _products(alpha=(3, 10), tailsize=(5, 20), distance=("eucos", "euclidean")),
    "optfs": _products(score=("vanilla", "energy"), bins=(20, 100)),
    "radial-mahalanobis": _products(beta=(0.0, 0.25, 0.5, 0.75, 1.0)),
    "ras": _products(score=("energy", "msp", "max-logit")),
    "react": _products(percentile=(80, 85, 90, 92.5, 95, 97, 98, 99, 99.5, 100)),
    "relation": _products(temperature=(0.5, 1.0, 2.0), cut=(0.0, 0.03, 0.1)),
    "she": _products(similarity=("inner", "cosine", "euclidean")),
    "vra": _products(eta_alpha=(0.2, 0.4, 0.5, 0.6, 0.7, 0.8), eta_beta=(0.85, 0.9, 0.95, 0.99)),
    "vra++": _products(a=(0.01, 0.1, 0.5), m=(0.5, 1.0, 4.0)),
    "weiper-kld": _products(delta=(1.8, 2.2), smoothing=((4, 15), (8, 15)), bins=(60, 100)),
}
"""Options tried by method; a method without stays with its automatic and its published row."""

_SECOND_LOOK = ("odin", "i-odin", "adascale-a", "adascale-l")
_LARGE = ("resnet56_cifar10", "mobilenet_photos")
_OF_MAPS: dict[str, list[Options]] = {
    "nac": [{"layers": ()}],
    "gram": [{"samples": 16}],
    "gaia-a": [],
    "grood": [{"k": 5}],
}
_NAC: dict[str, Options] = {
    "densenet101_cifar10": {"layers": ("block1", "block2", "block3")},
    "small_vit": {"layers": (), "alpha": 100.0, "r": 500, "bins": 50, "samples": 50_000},
    "mobilenet_photos": {
        "layers": ("blocks.5", "blocks.12", "blocks.16"),
        "alpha": (1, 0.01, 300, 3000),
        "r": (5000, 50, 500, 10),
        "bins": (1000, 500, 50, 50),
    },
}
"""What BierOne/ood_coverage releases for networks of the kind: `configs/postprocessors/nac`, for a
ViT on ImageNet (the last norm alone) and a ResNet on ImageNet; its CIFAR-10 ones for the others."""


_IMAGENET: dict[str, Options] = {
    "dice": {"percentile": 70},
    "itp": {"percentile": 30, "deviations": 1.5},
    "line": {"weight_percentile": 10, "activation_percentile": 10, "clip": 0.8},
    "low-dim-grad": {"k": 10},
}
"""Published options of methods that have others for networks of ImageNet."""


def published(method: str, options: Mapping[str, Any], network: str) -> Options:
    """The published options, where there are some for networks of the kind those."""
    if method == "nac" and options:
        return dict(options) | _NAC.get(network, {})
    if network == "mobilenet_photos" and method in _IMAGENET:
        return _IMAGENET[method]
    return dict(options)


def grid(method: str, network: str) -> list[Options]:
    """Options tried of one method; fewer on large networks where they read the network itself."""
    if network != "resnet20_cifar10" and method in _SECOND_LOOK:
        return []
    if network in _LARGE and method in _OF_MAPS:
        return _OF_MAPS[method]
    if network == "mobilenet_photos" and method in ("line", "weiper-kld", "itp"):
        return []  # Each setting is classes × width there.
    return GRIDS.get(method, [])
