"""A model as its source opened it, how its inputs are made, and the reference networks' records."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from torch import nn

from gradood.data import ColumnInput
from gradood.errors import ConfigError

__all__ = ["OVERRIDING", "OpenedModel", "REFERENCES", "Reference", "reference_of"]

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


OVERRIDING = ("resize", "crop", "mean", "std", "interpolation")
"""Options of `gradood.data.Preprocess` which, all given, make a configuration unnecessary."""


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class OpenedModel:
    """A model and what its source says of it.

    Attributes:
        model: as it was made; its mode and device are the maker's.
        inputs: given the names of the options that are settled already, what the model's own
            configuration says of the others, as keyword arguments of `gradood.data.Preprocess`.
        shape: channels, height and width of one input, if known.
        trained: whether it has its weights already; None for a factory of one's own, of which
            nobody knows.
        weights: the files these came from.
        reference: its record, if it is one of the library's own.
        reads: what it classifies: ``"image"``, ``"text"`` or ``"audio"``.
        encoder: of texts or sound, by its own tokenizer or feature extractor: takes the options of
            a `gradood.data.TextInput` or `AudioInput` that a user chooses; else None.
    """

    model: nn.Module
    inputs: Callable[[Collection[str]], Mapping[str, Any]] = field(default=lambda given: {})
    shape: tuple[int, int, int] | None = None
    trained: bool | None = None
    weights: tuple[Path, ...] = ()
    reference: Reference | None = None
    reads: str = "image"
    encoder: Callable[..., ColumnInput] | None = None

    def preprocess(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Options of `gradood.data.Preprocess`: those given, the others as it was trained.

        Raises:
            ConfigError: its configuration asks for what `Preprocess` cannot do, or leaves a choice
                open, and `given` does not settle it.
        """
        if given.keys() >= set(OVERRIDING):
            return dict(given)
        try:
            return {**self.inputs(given.keys()), **given}
        except ConfigError as error:
            flags = ", ".join(f"--{name}" for name in OVERRIDING)
            raise ConfigError(f"{error} Or give {flags} yourself.") from error
