"""The reference networks: what they were trained with, and where their weights are."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

__all__ = ["REFERENCES", "Reference", "reference_of"]

_CIFAR = {"mode": "RGB", "resize": 32, "crop": 32}
_IMAGENET_STATISTICS = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
_CIFAR_STATISTICS = {"mean": (0.4914, 0.4822, 0.4465), "std": (0.2023, 0.1994, 0.2010)}


@dataclass(frozen=True, slots=True)
class Reference:
    """A network that comes with the library.

    Attributes:
        name: what `build` takes.
        preprocess: keyword arguments of `gradood.data.Preprocess` that it was trained with; the
            resize brings other data sets to its size and leaves its own as they are.
        size: height and width of its input.
        weights: stem of the file of its published weights, or None if it has none.
        accuracy: share of the 10,000 test images that these weights classify correctly, measured
            with this code, or None.
    """

    name: str
    preprocess: Mapping[str, Any]
    size: int
    weights: str | None = None
    accuracy: float | None = None


REFERENCES: Mapping[str, Reference] = MappingProxyType(
    {
        reference.name: reference
        for reference in (
            Reference(
                name="convnet_mnist",
                preprocess=MappingProxyType({"mode": "L", "resize": 28, "crop": 28}),
                size=28,
                weights="convnet_mnist",
                accuracy=0.9902,
            ),
            Reference(
                name="densenet101",
                preprocess=MappingProxyType(_CIFAR | _CIFAR_STATISTICS),
                size=32,
                weights="densenet101_cifar10",
                accuracy=0.9454,
            ),
            Reference(
                name="digits_net",
                preprocess=MappingProxyType({"mode": "L", "resize": 8, "crop": 8}),
                size=8,
            ),
            Reference(
                name="resnet20",
                preprocess=MappingProxyType(_CIFAR | _IMAGENET_STATISTICS),
                size=32,
                weights="resnet20_cifar10",
                accuracy=0.9173,
            ),
            Reference(
                name="resnet56",
                preprocess=MappingProxyType(_CIFAR | _IMAGENET_STATISTICS),
                size=32,
                weights="resnet56_cifar10",
                accuracy=0.9339,
            ),
        )
    }
)
"""The reference networks by name."""


def reference_of(spec: str) -> Reference | None:
    """The record of a reference network, named alone or with a module of `gradood.models`."""
    module, colon, name = spec.rpartition(":")
    known = not colon or module == "gradood.models" or module.startswith("gradood.models.")
    return REFERENCES.get(name) if known else None
