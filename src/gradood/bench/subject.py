"""The model under test: built, loaded, with the preprocessing it takes."""

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from torch import nn

from gradood.data import Preprocess
from gradood.errors import ConfigError
from gradood.models import REFERENCES, Reference, build, load_weights

__all__ = ["Subject", "load_subject"]


@dataclass(frozen=True, eq=False, slots=True)
class Subject:
    """A model and how its inputs are made.

    Attributes:
        model: in evaluation mode, on the device asked for.
        preprocess: from an image to its input.
        spec: what it was built from.
        weights: the file they came from, or None.
        digest: SHA-256 of that file, or None.
        reference: its record, if it is one of `gradood.models`.
    """

    model: nn.Module
    preprocess: Preprocess
    spec: str
    weights: Path | None
    digest: str | None
    reference: Reference | None

    @property
    def published_accuracy(self) -> float | None:
        """Share of its own test set that a reference network with its published weights gets right.

        They are told by the name of their file.
        """
        if self.reference is None or self.weights is None:
            return None
        return self.reference.accuracy if self.weights.stem == self.reference.weights else None

    def to_dict(self) -> dict[str, Any]:
        """Plain values: what it is, without the weights themselves."""
        return {
            "model": self.spec,
            "class": type(self.model).__name__,
            "parameters": sum(p.numel() for p in self.model.parameters()),
            "weights": None if self.weights is None else str(self.weights),
            "weights_sha256": self.digest,
            "published_accuracy": self.published_accuracy,
            "preprocess": asdict(self.preprocess),
        }


def load_subject(
    spec: str,
    weights: Path | None = None,
    *,
    num_classes: int | None = None,
    preprocess: Mapping[str, Any] | None = None,
    device: str = "cpu",
    untrained: bool = False,
) -> Subject:
    """Build a model, load its weights, and settle how its inputs are made.

    Args:
        spec: as `gradood.models.build` takes it.
        weights: safetensors or state-dict file; None where the factory loads its own.
        num_classes: passed to the factory if given.
        preprocess: options of `Preprocess` that differ from the reference network's own, or from
            plain scaling for any other model.
        device: where the model goes.
        untrained: allow a reference network without weights.

    Raises:
        ConfigError: no such model, weights of another model, or none where they are needed.
        DataError: the file cannot be read.
    """
    reference = _reference(spec)
    if reference is not None and weights is None and not untrained:
        raise ConfigError(
            f"the reference network {spec!r} is untrained without weights; give the file of its "
            "weights."
        )
    model = build(spec, **({} if num_classes is None else {"num_classes": num_classes}))
    digest = None
    if weights is not None:
        load_weights(model, weights)
        with weights.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
    defaults = {} if reference is None else reference.preprocess
    settings = Preprocess(**{**defaults, **(preprocess or {})})
    return Subject(model.eval().to(device), settings, spec, weights, digest, reference)


def _reference(spec: str) -> Reference | None:
    """The record of a reference network, named alone or with a module of `gradood.models`."""
    module, colon, name = spec.rpartition(":")
    known = not colon or module == "gradood.models" or module.startswith("gradood.models.")
    return REFERENCES.get(name) if known else None
