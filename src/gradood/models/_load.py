"""A model with its weights, and the preprocessing it takes."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from gradood._io.arguments import described, text
from gradood.data import ColumnInput, Preprocess
from gradood.errors import ConfigError
from gradood.models import OpenedModel, Reference, load_weights, open_model
from gradood.models._columns import ColumnChoice, chosen_input, stored_input

__all__ = ["LoadedModel", "Subject", "load_model", "load_subject"]


@dataclass(frozen=True, eq=False, slots=True)
class LoadedModel:
    """A model and how its inputs are made.

    Attributes:
        opened: the model, in evaluation mode on the device asked for, and what is known of it.
        spec: what it was opened by.
        weights: the files they came from; empty if the factory or a library loaded its own.
        digest: SHA-256 of these files one after another, or None.
        options: of `Preprocess`, which go before the model's own.
        columns: which columns of a table are the input, if it is no image.
    """

    opened: OpenedModel
    spec: str
    weights: tuple[Path, ...]
    digest: str | None
    options: Mapping[str, Any]
    columns: ColumnChoice = field(default_factory=ColumnChoice)

    @property
    def model(self) -> nn.Module:
        """In evaluation mode, on the device asked for."""
        return self.opened.model

    @property
    def reference(self) -> Reference | None:
        """Its record, if it is one of `gradood.models`."""
        return self.opened.reference

    @property
    def preprocess(self) -> Preprocess | ColumnInput:
        """From an image, or a row, to its input: as asked for, and else as the model says.

        Raises:
            ConfigError: the model's configuration asks for what `Preprocess` cannot do, or leaves
                a choice open.
        """
        found = chosen_input(self.columns, self.opened)
        if found is None:
            return Preprocess(**self.opened.preprocess(self.options))
        if self.options:
            flags = ", ".join(f"--{name}" for name in self.options)
            raise ConfigError(f"{flags} is of images, and the input is {found.kind}; leave it out.")
        return found

    def preprocess_like(self, stored: Mapping[str, Any] | None) -> Preprocess | ColumnInput:
        """As a saved detector's inputs were made.

        Args:
            stored: what `to_dict` of its preprocessing gave; None where nobody knows: as here.

        Raises:
            ConfigError: other columns were asked for.
        """
        if stored is None:
            return self.preprocess
        if "kind" not in stored:
            if self.columns.given:
                raise ConfigError("columns were given, and the detector was fitted on images.")
            return Preprocess.from_dict(stored)
        found = stored_input(stored, self.opened)
        if self.columns.given:
            differing = self.columns.differing(found)
            if differing:
                raise ConfigError(
                    f"the detector was fitted with {differing}; leave the options of columns out, "
                    "or fit again."
                )
        return found

    @property
    def published_accuracy(self) -> float | None:
        """Share of its own test set that a reference network with its published weights gets right.

        They are told by the name of their file.
        """
        if self.reference is None or len(self.weights) != 1:
            return None
        return self.reference.accuracy if self.weights[0].stem == self.reference.weights else None

    def to_dict(self) -> dict[str, Any]:
        """Plain values: what it is, without the weights themselves.

        The preprocessing is None where the model leaves it open.
        """
        try:
            preprocess = self.preprocess.to_dict()
        except ConfigError:
            preprocess = None
        return {
            "model": self.spec,
            "class": type(self.model).__name__,
            "parameters": sum(p.numel() for p in self.model.parameters()),
            "weights": ", ".join(map(str, self.weights)) or None,
            "weights_sha256": self.digest,
            "published_accuracy": self.published_accuracy,
            "preprocess": preprocess,
        }


def load_model(
    spec: str,
    weights: Path | None = None,
    *,
    num_classes: int | None = None,
    preprocess: Mapping[str, Any] | None = None,
    columns: ColumnChoice | None = None,
    device: str = "cpu",
    pretrained: bool = False,
    untrained: bool = False,
) -> LoadedModel:
    """Open a model, load its weights, and say how its inputs are made.

    Args:
        spec: as `gradood.models.open_model` takes it.
        weights: safetensors or state-dict file; None where the source brings its own.
        num_classes: passed to the source if given.
        preprocess: options of `Preprocess` that differ from the model's own, or from plain scaling
            for a model that says nothing.
        columns: which columns of a table are the input; None for images, or as the model reads.
        device: where the model goes.
        pretrained: let timm or torchvision fetch its weights.
        untrained: allow a model without weights.

    Raises:
        ConfigError: no such model, weights of another model, or none where they are needed; or no
            such device.
        DataError: the file cannot be read.
        ImportError: the library it comes from is not installed.
    """
    text(spec, "model", "its name, such as resnet20 or package.module:factory")
    if pretrained and weights is not None:
        raise ConfigError("--pretrained and --weights were both given; give one.")
    opened = open_model(
        spec,
        pretrained=pretrained,
        **({} if num_classes is None else {"num_classes": num_classes}),
    )
    if opened.trained is False and weights is None and not untrained:
        kind = "reference network" if opened.reference is not None else "model"
        raise ConfigError(
            f"the {kind} {spec!r} is untrained without weights; give the file of its weights."
        )
    files = opened.weights
    if weights is not None:
        load_weights(opened.model, weights)
        files = (weights,)
    opened.model.eval().to(_device(device))
    choice = ColumnChoice() if columns is None else columns
    return LoadedModel(opened, spec, files, _digest(files), preprocess or {}, choice)


def _device(name: Any) -> torch.device:
    """A device that this machine has.

    Raises:
        ConfigError: there is no such kind of device, or none here.
    """
    try:
        device = torch.device(name)
    except (RuntimeError, TypeError) as error:
        raise ConfigError(
            f"device={described(name)}; expected such as 'cpu', 'cuda' or 'cuda:1'."
        ) from error
    try:
        torch.zeros(1, device=device).cpu()
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        why = (str(error).splitlines() or [""])[0]
        raise ConfigError(
            f"device={str(device)!r} is none of this machine ({why}); give device='cpu'."
        ) from error
    return device


def _digest(files: Sequence[Path]) -> str | None:
    if not files:
        return None
    total = hashlib.sha256()
    for file in files:
        with file.open("rb") as stream:
            while part := stream.read(1 << 20):
                total.update(part)
    return total.hexdigest()


Subject = LoadedModel
"""The former name of `LoadedModel`, kept for one release."""
load_subject = load_model
"""The former name of `load_model`, kept for one release."""
